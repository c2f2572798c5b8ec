"""Three spiral arms
=================

Separate three spiral arms, and draw what the network decides: spiral.png, here in this folder.

What one learns: the same network with and without layer normalization, a learning rate that falls, stopping when the
validation no longer improves, and how a decision boundary shows where a network is unsure.
"""

import tinygrad_norm as tn
from tinygrad_norm import data, nn, optim, train, viz

x, x_val, y, y_val = data.train_test_split(*data.spirals(600), test_size=0.25, seed=0)
val_set = data.DataLoader(data.TensorDataset(x_val, y_val), batch_size=150)

# %%
# Trained twice: without normalization, and with layer norm.
for norm in (None, "layer"):
    tn.manual_seed(0)
    train_set = data.DataLoader(data.TensorDataset(x, y), batch_size=30, shuffle=True, seed=0)
    model = nn.MLP([2, 32, 32, 3], norm=norm)
    optimizer = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)
    stop = train.EarlyStopping("val_loss", patience=20)
    trainer = train.Trainer(
        model, optimizer, nn.CrossEntropyLoss(), metrics="accuracy", callbacks=[stop], scheduler=schedule
    )
    history = trainer.fit(train_set, epochs=100, val_loader=val_set, progress=False)
    result = trainer.evaluate(val_set)
    print(f"norm={norm}: {history.epochs} epochs, best validation accuracy {result['accuracy']:.1%}")

# %%
# What the second net decides at each point of the plane, and how it came there.
viz.decision_boundary(model, x, y).savefig("spiral.png")
viz.curves(history).savefig("spiral_curves.png")
print("wrote spiral.png and spiral_curves.png")
