"""Digits in twelve lines
======================

Train a small network with batch normalization on real images of handwritten digits.

What one learns: a model, an optimizer, a loader and the Trainer are all that is needed; ``evaluate`` measures on images
the network has never seen.
"""

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train

# %%
# Three quarters of 1,797 images to learn from, the rest to see what was learned.
tn.manual_seed(0)
x_train, x_test, y_train, y_test = data.train_test_split(*data.digits(), test_size=0.25, seed=0)
train_set = data.DataLoader(data.TensorDataset(x_train, y_train), batch_size=64, shuffle=True, drop_last=True, seed=0)
test_set = data.DataLoader(data.TensorDataset(x_test, y_test), batch_size=256)

# %%
# A net, an optimizer and the loop that runs them.
model = nn.MLP([64, 64, 10], norm="batch")
optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss(), metrics=["accuracy"])
trainer.fit(train_set, epochs=10)

# %%
# In evaluation batch norm uses the statistics that it collected in training.
print(model)
print(f"accuracy on {len(x_test)} unseen images: {trainer.evaluate(test_set)['accuracy']:.1%}")
