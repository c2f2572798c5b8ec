"""Data: batches hold the right samples, in an order that seed and epoch decide; resuming is exact."""

import hashlib
import json
import os
import subprocess
import sys
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_norm as tn
from tinygrad_norm import data
from tinygrad_norm.data import DataLoader, Dataset, TensorDataset, train_test_split


def numbers(n=10):
    """A dataset whose samples tell their own position."""
    return TensorDataset(np.float32(np.arange(n)[:, None] * [1, 10]), np.arange(n))


def positions(batches):
    """The positions of all samples, after checking that their columns belong together."""
    found = []
    for x, y in batches:
        assert np.array_equal(x.numpy(), y.numpy()[:, None] * [1, 10])
        found.append(y.numpy().tolist())
    return found


def flat(batches):
    return [i for batch in positions(batches) for i in batch]


class Pairs(Dataset):
    """Sample by sample, as a user writes it."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


# ---- datasets


def test_tensor_dataset_gives_tensors():
    dataset = TensorDataset(tn.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), np.array([7, 8, 9], np.int32))
    assert len(dataset) == 3
    x, y = dataset[1]
    assert type(x) is tn.Tensor and x.dtype == np.float32 and x.numpy().tolist() == [3.0, 4.0]
    assert y.shape == () and y.dtype == np.int32 and y.item() == 8
    x, y = dataset[1:]
    assert x.shape == (2, 2) and y.numpy().tolist() == [8, 9]
    assert dataset[-1][1].item() == 9
    with pytest.raises(IndexError):
        dataset[3]
    assert [y.item() for _, y in dataset] == [7, 8, 9]


def test_tensor_dataset_takes_many_samples_at_once():
    dataset = numbers()
    x, y = dataset.take(np.array([7, 0, 7]))
    assert type(x) is np.ndarray and x.tolist() == [[7, 70], [0, 0], [7, 70]] and y.tolist() == [7, 0, 7]


def test_a_dataset_copies_arrays_and_shares_tensors():
    array, x = np.arange(3.0), tn.arange(3)
    dataset = TensorDataset(array, x)
    array[:] = 9
    x[0] = 9
    assert [column.tolist() for column in dataset.take(np.arange(3))] == [[0, 1, 2], [9, 1, 2]]


@pytest.mark.parametrize(
    ("arrays", "shown"),
    [
        ([np.zeros((3, 2)), np.zeros(4)], r"got shapes \(3, 2\), \(4,\)\."),
        ([np.zeros(3), np.float32(1)], r"got shapes \(3,\), \(\)\."),
        ([], "got shapes of none"),
    ],
)
def test_lengths_must_agree(arrays, shown):
    with pytest.raises(ValueError, match="TensorDataset: needs one or more arrays of equal length .*" + shown):
        TensorDataset(*arrays)
    with pytest.raises(ValueError, match="train_test_split: needs one or more arrays of equal length .*" + shown):
        train_test_split(*[np.asarray(array) for array in arrays])


def test_samples_are_put_together():
    rows = [(np.full(2, i, np.float32), tn.tensor(i / 2), i, i / 4, i > 1) for i in range(4)]
    columns = Pairs(rows).take(np.array([3, 1]))
    assert [(c.shape, c.dtype.name) for c in columns] == [
        ((2, 2), "float32"), ((2,), "float32"), ((2,), "int64"), ((2,), "float32"), ((2,), "bool"),
    ]  # fmt: skip
    assert [c.tolist() for c in columns] == [
        [[3, 3], [1, 1]],
        [1.5, 0.5],
        [3, 1],
        [0.75, 0.25],
        [True, False],
    ]
    (single,) = Pairs([1.0, 2.0, 3.0]).take(np.array([2, 0]))
    assert single.tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    "bad",
    [(np.zeros(3), 0), (np.zeros(2, np.float32), 0), (np.zeros(2), 0.5), (np.zeros(2),), (np.zeros(2), 0, 0)],
)
def test_samples_that_differ_are_named(bad):
    good = (np.zeros(2), 0)
    with pytest.raises(ValueError, match=r"Pairs: the samples of a batch must agree .*; sample 4 has .*, sample 2 has"):
        Pairs([good, good, bad, good, good]).take(np.array([4, 1, 2]))


def test_an_error_of_a_dataset_names_the_sample():
    class Broken(Pairs):
        def __getitem__(self, index):
            return 1 / (index - 5)

    with pytest.raises(ZeroDivisionError) as caught:
        list(DataLoader(Broken(range(8)), batch_size=3))
    assert caught.value.__notes__ == ["while Broken[5] was read"]
    with pytest.raises(TypeError) as caught:
        list(DataLoader(Pairs([1.0, object()])))
    assert caught.value.__notes__ == ["while Pairs[1] was read"]


def test_a_dataset_needs_its_two_methods():
    class Half(Dataset):
        def __len__(self):
            return 3

    with pytest.raises(TypeError, match="abstract"):
        Half()


# ---- the loader: what it yields


@pytest.mark.parametrize("dataset", [numbers(), Pairs([numbers()[i] for i in range(10)])])
def test_batches_in_the_order_of_the_dataset(dataset):
    loader = DataLoader(dataset, batch_size=4)
    assert len(loader) == 3
    assert positions(loader) == positions(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    batch = next(iter(loader))
    assert type(batch) is tuple and all(type(column) is tn.Tensor for column in batch)
    assert [column.dtype for column in batch] == [np.float32, np.int64] and batch[0].device == "cpu"
    assert not any(column.requires_grad for column in batch)


def test_the_last_batch():
    assert positions(DataLoader(numbers(10), 5, drop_last=True)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert positions(DataLoader(numbers(11), 5, drop_last=True)) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    assert [len(b) for b in positions(DataLoader(numbers(11), 5))] == [5, 5, 1]
    assert positions(DataLoader(numbers(2), 5)) == [[0, 1]]
    assert len(DataLoader(numbers(3))) == 3


@settings(max_examples=60, deadline=None)
@given(n=st.integers(1, 40), size=st.integers(1, 45), seed=st.integers(0, 2**70), drop=st.booleans())
def test_a_shuffled_epoch_is_a_permutation(n, size, seed, drop):
    if drop and n < size:
        return
    loader = DataLoader(numbers(n), size, shuffle=True, seed=seed, drop_last=drop)
    found = positions(loader)
    assert len(found) == len(loader) == (n // size if drop else -(-n // size))
    assert all(len(batch) == size for batch in found[:-1])
    seen = [i for batch in found for i in batch]
    assert len(set(seen)) == len(seen) == (n // size * size if drop else n) and set(seen) <= set(range(n))


def test_a_batch_is_nobody_elses_memory():
    loader = DataLoader(numbers(), 10)
    for x, _ in loader:
        x[...] = 0
    assert flat(loader) == list(range(10))


# ---- the loader: order


def test_the_order_depends_on_seed_and_epoch_only():
    def epochs(seed, **options):
        loader = DataLoader(numbers(50), options.pop("size", 7), shuffle=True, seed=seed)
        return [flat(loader) for _ in range(3)]

    first = epochs(0)
    assert first[0] != first[1] != first[2] != first[0] and first[0] != list(range(50))
    np.random.seed(5)
    tn.manual_seed(5)
    assert epochs(0) == first == epochs(0, size=11)
    assert all(a != b for a, b in zip(epochs(1), first))


def test_epochs_of_neighbouring_seeds_are_unrelated():
    orders = set()
    for seed in range(8):
        loader = DataLoader(numbers(20), 20, shuffle=True, seed=seed)
        orders |= {tuple(flat(loader)) for _ in range(8)}
    assert len(orders) == 64


def test_the_order_leaves_global_random_numbers_alone():
    before = np.random.get_state()[1].tolist()
    list(DataLoader(numbers(), 3, shuffle=True))
    data.spirals(), train_test_split(np.arange(5))
    assert np.random.get_state()[1].tolist() == before


def test_without_a_seed_the_project_generator_decides():
    def order():
        return flat(DataLoader(numbers(50), 7, shuffle=True))

    tn.manual_seed(3)
    first, second = order(), order()
    assert first != second
    tn.manual_seed(3)
    assert order() == first and order() == second


def test_a_loader_that_does_not_shuffle_draws_nothing():
    tn.manual_seed(3)
    first = DataLoader(numbers(), shuffle=True).seed
    tn.manual_seed(3)
    assert DataLoader(numbers()).seed is None
    assert DataLoader(numbers(), shuffle=True).seed == first


ORDER = """
import hashlib, numpy as np
from tinygrad_norm import data
loader = data.DataLoader(data.TensorDataset(np.arange(1000)), 32, shuffle=True, seed=11)
digest = hashlib.sha256()
for _ in range(2):
    for (x,) in loader:
        digest.update(x.numpy().tobytes())
parts = data.train_test_split(np.arange(99), stratify=np.arange(99) % 4)
for x in (*data.spirals(), *data.moons(), *data.xor(), *parts):
    digest.update(np.asarray(x).tobytes())
print(digest.hexdigest())
"""


def test_the_same_bits_in_every_process():
    found = {
        subprocess.run(
            [sys.executable, "-c", ORDER],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(found) == 1


def test_set_epoch():
    loader = DataLoader(numbers(50), 7, shuffle=True, seed=2)
    epochs = [flat(loader) for _ in range(4)]
    loader.set_epoch(1)
    assert [flat(loader), flat(loader)] == epochs[1:3]
    with pytest.raises(ValueError, match=r"DataLoader\.set_epoch: epoch must be an integer of at least 0; got -1"):
        loader.set_epoch(-1)


def test_a_look_at_one_batch_and_a_pass_left_early_take_an_epoch():
    reference = DataLoader(numbers(50), 7, shuffle=True, seed=2)
    epochs = [flat(reference) for _ in range(3)]
    loader = DataLoader(numbers(50), 7, shuffle=True, seed=2)
    assert next(iter(loader))[1].numpy().tolist() == epochs[0][:7]
    for _ in loader:
        break
    assert flat(loader) == epochs[2]


def test_two_passes_at_once_do_not_disturb_each_other():
    reference = DataLoader(numbers(20), 4, shuffle=True, seed=2)
    epochs = [positions(reference) for _ in range(3)]
    loader = DataLoader(numbers(20), 4, shuffle=True, seed=2)
    both = list(zip(loader, loader))
    assert positions(a for a, _ in both) == epochs[0] and positions(b for _, b in both) == epochs[1]
    assert positions(loader) == epochs[2]


# ---- the loader: going on


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("done", [0, 1, 3, 5, 6, 7, 11, 12, 17])
def test_going_on_yields_exactly_what_was_left(shuffle, drop_last, done):
    def loader(seed):
        return DataLoader(numbers(23), 4, shuffle=shuffle, drop_last=drop_last, seed=seed)

    whole, state = [], None
    first = loader(seed=8)
    if done == 0:
        state = first.state_dict()
    while len(whole) < 18:
        for batch in first:
            whole.append(batch)
            if len(whole) == done:
                state = json.loads(json.dumps(first.state_dict()))
    second = loader(seed=None)
    second.load_state_dict(state)
    assert second.state_dict() == state
    rest = []
    while len(rest) < len(whole) - done:
        rest.extend(second)
    assert positions(rest)[: len(whole) - done] == positions(whole)[done:]
    assert first.state_dict() == second.state_dict()


def test_the_state_after_an_epoch_is_the_start_of_the_next():
    loader = DataLoader(numbers(10), 4, shuffle=True, seed=1)
    assert len(list(loader)) == 3
    fixed = {"seed": 1, "samples": 10, "batch_size": 4, "shuffle": True, "drop_last": False}
    assert loader.state_dict() == {"epoch": 1, "position": 0, **fixed}


def test_a_state_that_does_not_fit_is_refused():
    loader = DataLoader(numbers(10), 4, shuffle=True, seed=1)
    good = loader.state_dict()
    for name, value in {"samples": 11, "batch_size": 5, "shuffle": False, "drop_last": True}.items():
        with pytest.raises(ValueError, match=rf"taken with {name}={value}, this loader has {name}={good[name]}"):
            loader.load_state_dict({**good, name: value})
    for name, value in {"position": 4, "epoch": -1, "seed": None}.items():
        with pytest.raises(ValueError, match=rf"load_state_dict: {name} must be .* got {value}"):
            loader.load_state_dict({**good, name: value})
    with pytest.raises(ValueError, match=r"needs the entries \['batch_size', .*; got \['epoch'\]"):
        loader.load_state_dict({"epoch": 1})
    assert loader.state_dict() == good


# ---- the loader: bad calls


@pytest.mark.parametrize("size", [0, -1, 2.0, "4", True, None])
def test_bad_batch_sizes(size):
    with pytest.raises(ValueError, match="DataLoader: batch_size must be an integer of at least 1; got"):
        DataLoader(numbers(), batch_size=size)


@pytest.mark.parametrize("seed", [-1, 1.0, "a", True])
def test_bad_seeds(seed):
    with pytest.raises(ValueError, match="DataLoader: seed must be an integer of at least 0; got"):
        DataLoader(numbers(), shuffle=True, seed=seed)


def test_a_loader_without_batches_is_refused():
    with pytest.raises(ValueError, match=r"a dataset of 0 samples gives no batch of 4\."):
        DataLoader(TensorDataset(np.zeros((0, 3))), 4)
    with pytest.raises(ValueError, match=r"a dataset of 3 samples gives no batch of 4 with drop_last=True"):
        DataLoader(numbers(3), 4, drop_last=True)


@pytest.mark.parametrize("dataset", [np.zeros((4, 2)), [(1, 2)], None])
def test_what_is_no_dataset_is_refused(dataset):
    with pytest.raises(TypeError, match=r"must be a data\.Dataset; got .*\. Write data\.TensorDataset\(x, y\)"):
        DataLoader(dataset)


def test_other_bad_arguments():
    for workers in (-1, 1.5, True, None):
        with pytest.raises(ValueError, match=r"num_workers must be an integer of at least 0; got"):
            DataLoader(numbers(), num_workers=workers)
    with pytest.raises(ValueError, match="'abacus' is not available"):
        DataLoader(numbers(), device="abacus")


def test_tensors_are_made_on_the_device_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr("tinygrad_norm.data.loader.tensor", lambda column, device: asked.append(device))
    for device in ("cpu", None):
        next(iter(DataLoader(numbers(), device=device)))
    assert asked == ["cpu", "cpu", None, None]


# ---- splitting


def test_split_parts_every_sample_once_and_all_arrays_alike():
    x, y = np.arange(10)[:, None] * [1.0, 2.0], tn.tensor(np.arange(10))
    x_train, x_test, y_train, y_test = train_test_split(x, y)
    assert type(x_train) is np.ndarray and type(y_test) is tn.Tensor
    assert x_train.shape == (7, 2) and x_test.shape == (3, 2)
    assert x_train[:, 0].tolist() == y_train.numpy().tolist() and x_test[:, 0].tolist() == y_test.numpy().tolist()
    assert sorted([*y_train.numpy(), *y_test.numpy()]) == list(range(10))


def test_split_depends_on_the_seed():
    def test_part(**options):
        return train_test_split(np.arange(100), **options)[1].tolist()

    assert test_part() == test_part(seed=0) != test_part(seed=1)
    assert test_part() != sorted(test_part())


@pytest.mark.parametrize(("size", "count"), [(0.25, 3), (0.2, 2), (0.01, 1), (0.9, 9), (4, 4), (np.int64(4), 4)])
def test_split_sizes(size, count):
    train, test = train_test_split(np.arange(10), test_size=size)
    assert (len(train), len(test)) == (10 - count, count)


@pytest.mark.parametrize("size", [0, 10, 11, -1, 0.0, 1.0, 0.95, 1.5, -0.1, float("nan"), "4", None, True, False])
def test_bad_split_sizes(size):
    with pytest.raises(ValueError, match=r"test_size must be .* of the 10 samples .* got"):
        train_test_split(np.arange(10), test_size=size)


@settings(max_examples=80, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=3, max_size=60),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 9),
)
def test_a_stratified_split_keeps_the_proportions(labels, share, seed):
    y = np.array(labels)
    count = int(np.ceil(share * len(y)))
    if count == len(y):
        return
    order = np.arange(len(y))
    train, test = train_test_split(order, test_size=share, seed=seed, stratify=tn.tensor(y))
    assert len(test) == count and sorted([*train, *test]) == order.tolist()
    exact = np.bincount(y, minlength=5) * count / len(y)
    assert np.all(np.abs(np.bincount(y[test], minlength=5) - exact) < 1)


def test_stratified_digits():
    _, y = data.digits()
    _, test = train_test_split(y, y, stratify=y)[2:]
    assert np.bincount(test.numpy()).tolist() == [45, 46, 44, 46, 45, 46, 45, 45, 43, 45]


def test_bad_split_arguments():
    with pytest.raises(TypeError, match="needs Tensors or NumPy arrays; got list at position 1"):
        train_test_split(np.arange(3), [1, 2, 3])
    with pytest.raises(ValueError, match=r"stratify must hold one label for each of the 3 samples; got shape \(2,\)"):
        train_test_split(np.arange(3), stratify=np.arange(2))
    with pytest.raises(ValueError, match="train_test_split: seed must be an integer of at least 0; got -1"):
        train_test_split(np.arange(3), seed=-1)


# ---- the sets


def test_digits():
    x, y = data.digits()
    assert type(x) is tn.Tensor and x.shape == (1797, 64) and x.dtype == np.float32
    assert y.shape == (1797,) and y.dtype == np.int64
    values = x.numpy() * 16
    assert values.min() == 0 and values.max() == 16 and np.array_equal(values, np.round(values))
    raw = values.astype(np.uint8).tobytes() + y.numpy().astype(np.uint8).tobytes()
    assert hashlib.sha256(raw).hexdigest() == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    assert np.array_equal(values.reshape(-1, 8, 8)[0, 1], [0, 0, 13, 15, 10, 15, 5, 0])


def test_digits_are_small_and_carry_their_credit():
    folder = resources.files("tinygrad_norm.data")
    assert len((folder / "digits.npz").read_bytes()) < 50_000
    credit = (folder / "DIGITS_LICENSE.md").read_text()
    for part in ("Alpaydin", "Kaynak", "UCI Machine Learning Repository", "CC BY 4.0", "10.24432/C50P49"):
        assert part in credit


def test_digits_equal_their_source():
    datasets = pytest.importorskip("sklearn.datasets")
    source = datasets.load_digits()
    x, y = data.digits()
    assert np.array_equal(x.numpy() * 16, source.data) and np.array_equal(y.numpy(), source.target)


@pytest.mark.parametrize(
    ("make", "classes"),
    [(data.spirals, 3), (lambda **o: data.spirals(classes=5, **o), 5), (data.moons, 2), (data.xor, 2)],
)
def test_toy_sets(make, classes):
    x, y = make(n=120)
    assert x.shape == (120, 2) and x.dtype == np.float32 and y.shape == (120,) and y.dtype == np.int64
    assert np.bincount(y.numpy()).tolist() == [120 // classes] * classes
    assert np.array_equal(make(n=120)[0].numpy(), x.numpy())
    assert not np.array_equal(make(n=120, seed=1)[0].numpy(), x.numpy())
    assert not np.array_equal(make(n=120, noise=0.5)[0].numpy(), x.numpy())
    assert np.isfinite(x.numpy()).all() and np.abs(x.numpy()).max() < 4
    assert make(n=7)[0].shape == (7, 2)


def nearest(x, y):
    """Accuracy of the nearest other sample's label: near 1 where classes are separate regions."""
    distance = ((x[:, None] - x[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(distance, np.inf)
    return (y[distance.argmin(axis=1)] == y).mean()


@pytest.mark.parametrize("make", [data.spirals, data.moons, data.xor])
def test_toy_sets_can_be_learned_but_not_by_a_line(make):
    x, y = (value.numpy() for value in make(n=300))
    assert nearest(x.astype(float), y) > 0.9
    features = np.c_[x, np.ones(len(x))]
    fitted = features @ np.linalg.lstsq(features, np.eye(y.max() + 1)[y], rcond=None)[0]
    assert (fitted.argmax(axis=1) == y).mean() < 0.9


def test_toy_shapes_without_noise():
    x, y = (value.numpy() for value in data.moons(101, noise=0))
    centre = np.where(y[:, None] == 0, [0, 0], [1, 0.5])
    assert np.allclose(np.linalg.norm(x - centre, axis=1), 1)
    assert (x[y == 0, 1] > -1e-6).all() and (x[y == 1, 1] < 0.5 + 1e-6).all()
    x, y = (value.numpy() for value in data.spirals(90, noise=0))
    radius = np.linalg.norm(x, axis=1)
    assert radius.max() == pytest.approx(1) and radius.min() == 0
    assert np.allclose(radius[y == 0], radius[y == 1]) and (np.diff(radius[y == 0]) > 0).all()
    x, y = (value.numpy() for value in data.xor(4, noise=0))
    assert np.array_equal(y, (x[:, 0] != x[:, 1]).astype(int))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.spirals(2), "spirals: n must be an integer of at least 3; got 2"),
        (lambda: data.spirals(classes=1), "spirals: classes must be an integer of at least 2; got 1"),
        (lambda: data.moons(noise=-1), "moons: noise must be a finite number of at least 0; got -1"),
        (
            lambda: data.moons(noise=float("nan")),
            "moons: noise must be a finite number of at least 0; got nan",
        ),
        (lambda: data.xor(3), "xor: n must be an integer of at least 4; got 3"),
        (lambda: data.xor(n=8.0), r"xor: n must be an integer of at least 4; got 8\.0"),
        (lambda: data.xor(seed=-1), "xor: seed must be an integer of at least 0; got -1"),
    ],
)
def test_bad_toy_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_every_public_name_is_exported():
    assert all(getattr(data, name).__doc__ for name in data.__all__)
