"""Muon agrees with torch.optim.Muon and orthogonalizes its updates."""

import pytest
import torch
from torch import nn

from qtablate.nano.muon import Muon, orthogonalize

SHAPES = [(96, 96), (192, 96), (96, 192)]


def test_muon_equals_torch_muon_up_to_bf16_rounding():
    generator = torch.Generator().manual_seed(1)
    mine = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES for _ in range(2)]
    theirs = [nn.Parameter(p.detach().clone()) for p in mine]
    before = [p.detach().clone() for p in mine]
    ours, reference = Muon(mine, lr=0.02, weight_decay=0.1), torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1)
    for _ in range(4):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
    for a, b, start in zip(mine, theirs, before, strict=True):
        moved = (b - start).norm()
        assert moved > 0.1
        assert (a - b).norm() < 0.02 * moved  # theirs rounds to 8 bits
    swapped = mine[0] - mine[1] + theirs[1] - theirs[0]
    assert swapped.norm() < 0.02 * (mine[0] - before[0]).norm()  # each its own momentum


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalize_moves_singular_values_to_one_and_keeps_vectors(shape):
    """Five iterations bring them between .65 and 1.25, whatever the norm of the gradient."""
    matrix = 1e-3 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.mT @ orthogonalize(matrix) @ vh.mT  # diagonal: the same singular vectors
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-8
    large = s > 0.05 * s.amax(-1, keepdim=True)
    assert values[large].min() > 0.6
    assert values.max() < 1.25


def test_parameter_without_a_gradient_is_unchanged():
    with_gradient, without = (nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    with_gradient.grad = torch.eye(4)
    Muon([with_gradient, without], lr=0.1).step()
    assert (without == 1).all()
    assert (with_gradient != 1).any()
