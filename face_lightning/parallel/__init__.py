"""How the backbone's tables lie over processes: whole, or shared by columns."""
