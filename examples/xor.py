"""Exclusive or, with the loop written out
=======================================

Learn the exclusive or, with the training loop written out.

What one learns: what a step is (forward, loss, backward, update), and that a network without a hidden layer cannot
learn this at all: no straight line separates (0, 0) and (1, 1) from (0, 1) and (1, 0).
"""

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim

x, y = data.xor(4, noise=0)


# %%
# A step is forward, loss, backward, update.
def fit(model, steps=300):
    optimizer = optim.SGD(model.named_parameters(), lr=0.3, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    return loss.item()


# %%
# One straight line, and a net with a hidden layer.
tn.manual_seed(0)
line = nn.Linear(2, 2)
network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))

print(f"a line:    loss {fit(line):.4f}  (the logarithm of 2 is 0.6931: it guesses)")
print(f"a network: loss {fit(network):.4f}")
print()
print("x         y   network says")
for point, label, scores in zip(x.tolist(), y.tolist(), F.softmax(network(x), dim=-1).tolist()):
    print(f"{point}  {label}   {scores.index(max(scores))} with {max(scores):.1%}")
