"""One word for CPU or GPU
=======================

The same training on the CPU or on a GPU: one word decides where.

What one learns: set_default_device puts tensors, layers, optimizers and batches on a device, and nothing else in the
program changes. The same seed gives the same start on either, and a checkpoint of one goes on with the other. Where
there is no GPU, the error says what is missing.
"""

import time

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train

DEVICE = "cuda"  # the word: "cuda" or "cpu"

# %%
# Nothing below this cell knows where it runs.
try:
    tn.set_default_device(DEVICE)
except ValueError as error:
    print(f"{error}\nSo this runs on the CPU.\n")

tn.manual_seed(0)
x_train, x_test, y_train, y_test = data.train_test_split(*data.digits(), test_size=0.25, seed=0)
loader = data.DataLoader(data.TensorDataset(x_train, y_train), batch_size=64, shuffle=True, drop_last=True, seed=0)
model = nn.MLP([64, 128, 128, 10], norm="batch", dropout=0.1)
optimizer = optim.Adam(model.named_parameters(), lr=0.01)
trainer = train.Trainer(model, optimizer, nn.CrossEntropyLoss())

began = time.perf_counter()
trainer.fit(loader, epochs=5, progress=False)
tn.cuda.synchronize()  # a GPU works behind the program: wait before you look at the clock
seconds = time.perf_counter() - began

accuracy = (trainer.predict(x_test).argmax(1) == y_test).astype("float32").mean()
print(f"device: {next(model.parameters()).device}, {seconds:.2f} s, accuracy on unseen images {accuracy.item():.1%}")

# %%
# A checkpoint goes on on the other device.
train.save_checkpoint("swap.npz", model, optimizer)
tn.set_default_device("cpu")
there = nn.MLP([64, 128, 128, 10], norm="batch", dropout=0.1)
train.load_checkpoint("swap.npz", there, optim.Adam(there.named_parameters(), lr=0.01))
image, digit = x_test[:1].cpu(), y_test[0].item()
print(f"the checkpoint on the CPU takes a {digit} for a {there.eval()(image).argmax().item()}")
