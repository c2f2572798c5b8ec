"""A deep net with batch norm and shortcuts
========================================

A deep network of small convolutions on real images, with and without batch norm and shortcuts.

What one learns: how a block is written as a module (He et al. 2016: the input is added to what two convolutions make of
it), and what that and batch norm each do for thirteen layers that get six epochs.
"""

from time import perf_counter

import tinygrad_norm as tn
import tinygrad_norm.functional as F
from tinygrad_norm import data, nn, optim

x, y = data.digits()
x_train, x_test, y_train, y_test = data.train_test_split(x.reshape(-1, 1, 8, 8), y, test_size=0.25, seed=0)


# %%
# Two convolutions whose result is a change of the input.
class Block(nn.Module):
    def __init__(self, channels, norm, shortcut):
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=not norm)
        self.norm1, self.norm2 = (nn.BatchNorm2d(channels) if norm else nn.Identity() for _ in range(2))
        self.shortcut = shortcut

    def forward(self, x):
        change = self.norm2(self.second(F.relu(self.norm1(self.first(x)))))
        return F.relu(x + change if self.shortcut else change)


# %%
# The loop of training, with a learning rate that falls along half a cosine.
def train(norm, shortcut, channels=16, blocks=6, epochs=6):
    tn.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, channels, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    body = nn.Sequential(*(Block(channels, norm, shortcut) for _ in range(blocks)))
    model = nn.Sequential(stem, body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))
    optimizer = optim.SGD(model.named_parameters(), lr=0.05, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    batches = data.DataLoader(data.TensorDataset(x_train, y_train), batch_size=64, shuffle=True, drop_last=True, seed=0)
    start = perf_counter()
    for _ in range(epochs):
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        schedule.step()
    model.eval()
    with tn.no_grad():
        right = (model(x_test).argmax(1) == y_test).astype("float32").mean().item()
    return loss.item(), right, perf_counter() - start


# %%
# Four nets, alike but for batch norm and shortcuts.
print("batch norm  shortcuts  last loss  unseen images  seconds")
for norm in (False, True):
    for shortcut in (False, True):
        loss, right, seconds = train(norm, shortcut)
        print(f"{norm!s:<10}  {shortcut!s:<9}  {loss:9.3f}  {right:13.1%}  {seconds:7.1f}")
