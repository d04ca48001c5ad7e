"""A training loop of your own over `completion_loss`: any optimizer, any schedule, early stopping.

    python examples/train.py

It completes a synthetic matrix. Put your own entries into `observations`; see docs/operators.md.
"""

import torch

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.experiments import low_rank_problem

STEPS = 500


def observations() -> Observations:
    """Return the observed entries: row indices, column indices, values and the shape of the matrix."""
    return low_rank_problem(200, 100, 3, 4_000, seed=0, noise=0.1).train


def main() -> float:
    """Train, and return the best validation RMSE."""
    train, validation = observations().split(0.1, seed=0)
    model = DeepMatrixFactorization(train.shape, depth=3, hidden=32, init_scale=1e-2, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)

    best, best_state = float("inf"), {}
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = model.loss(train)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            rmse = model.loss(validation).sqrt().item()
        if rmse < best:
            best, best_state = rmse, {name: tensor.clone() for name, tensor in model.state_dict().items()}
        if step % 100 == 0:
            print(f"step {step}: train RMSE {loss.item() ** 0.5:.4f}, validation RMSE {rmse:.4f}")

    model.load_state_dict(best_state)
    print(f"best validation RMSE {best:.4f}; the noise is 0.1")
    torch.save(model.state_dict(), "model.pt")
    return best


if __name__ == "__main__":
    main()
