"""Straight-through token embeddings: exact in the forward pass, differentiable in the concept vectors."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from face_lightning.inner_product import rank_items

TokenGradient = Literal["linear", "soft", "projected"]
NUM_NEAR = 8


def tokens_with_gradient(
    concepts: Tensor,
    tokens: Tensor,
    codes: Tensor,
    token_embeddings: Tensor,
    method: TokenGradient = "soft",
    near: Tensor | None = None,
    temperature: float = 0.1,
) -> Tensor:
    """Look up the embeddings of the chosen tokens, differentiably in the concepts.

    `linear` passes the gradient through the least-squares linear map from codes to token embeddings.
    `soft` passes it through a softmax over the tokens nearest to each concept vector, so that the gradient only
    compares nearby words.
    `projected` is the paper's form: the encoder input is the linear map of the chosen codes instead of the token
    embeddings, with the gradient of `linear`.

    Note:
        The paper feeds `pinv(W_c) c_k` to the encoder, which differs from the word's embedding once W_c loses rank.
        By default the encoder here reads exactly the words that are shown.

    Args:
        concepts: Unit concept vectors, `(B, S, d)`.
        tokens: Chosen tokens, `(B, S)`.
        codes: Codebook in the search space, `(V, d)`.
        token_embeddings: Frozen input embeddings, `(V, T)`.
        method: "linear", "soft" or "projected".
        near: Tokens in the softmax of `soft` besides the chosen ones, `(B, S, K)`, distinct within a slot; the 8 of
            largest inner product if None.
        temperature: Temperature of the softmax in `soft`.

    Returns:
        `(B, S, T)`, equal to `token_embeddings[tokens]` except with `projected`.
    """
    hard = token_embeddings[tokens]
    codes = codes.detach()
    if method in ("linear", "projected"):
        centered = token_embeddings - token_embeddings.mean(0)
        ridge = 1e-4 * torch.eye(codes.shape[1], device=codes.device)
        back = torch.linalg.solve(codes.T @ codes + ridge, codes.T @ centered)
        soft = concepts @ back
        if method == "projected":
            hard = codes[tokens] @ back + token_embeddings.mean(0)
    else:
        if near is None:
            near = rank_items(concepts.detach().flatten(0, 1) @ codes.T, NUM_NEAR).view(*tokens.shape, -1)
        near = torch.cat([tokens.unsqueeze(-1), near], dim=-1)
        logits = torch.einsum("bsd,bskd->bsk", concepts, F.embedding(near, codes)) / temperature
        repeated = near[..., 1:] == tokens.unsqueeze(-1)
        logits = torch.cat([logits[..., :1], logits[..., 1:].masked_fill(repeated, -torch.inf)], dim=-1)
        soft = torch.einsum("bsk,bskt->bst", logits.softmax(-1), F.embedding(near, token_embeddings))
    result: Tensor = hard + (soft - soft.detach())  # the parentheses make the second term exactly 0
    return result
