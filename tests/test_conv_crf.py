"""ConvCRF: the dense CRF's model and options with window kernels; exact tiles."""

import numpy as np
import pytest

import densefield as df
from densefield import reference

MODES = ("none", "before", "after", "symmetric")
SPACE, COLOR = 3.0, 60.0


def make_image(grid=(11, 14), num_labels=5, dtype=np.float64, seed=5):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (*grid, 3)).astype(np.uint8)
    return rng.normal(size=(num_labels, *grid)).astype(dtype), image


def make_kernels(**options):
    return [
        df.Gaussian(sigma_space=2, weight=0.7, **options),
        df.Bilateral(sigma_space=SPACE, sigma_color=COLOR, weight=0.9),
    ]


def operators(image, filter_size, mode, window="square"):
    grid = image.shape[:-1]
    features = [
        reference.grid_positions(grid, sigma=2),
        reference.bilateral_features(image, sigma_space=SPACE, sigma_color=COLOR),
    ]
    return [
        reference.window_operator(f, shape=grid, filter_size=filter_size, window=window, mode=mode)
        for f in features
    ]


def compatibility(form, num_labels=5):
    rng = np.random.default_rng(8)
    if form == "potts":
        return df.Potts(), reference.potts(num_labels)
    if form == "vector":
        vector = -rng.random(num_labels)
        return vector, np.diag(vector)
    matrix = rng.normal(size=(num_labels, num_labels))
    return matrix, matrix


@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_marginals_equal_exact_mean_field(mode, exclude_self, form):
    unary, image = make_image()
    mu, matrix = compatibility(form)
    crf = df.ConvCRF(
        make_kernels(),
        5,
        normalization=mode,
        exclude_self=exclude_self,
        compatibility=mu,
        iterations=4,
    )
    expected = reference.mean_field(
        unary.reshape(5, -1),
        operators(image, 5, mode),
        [0.7 * matrix, 0.9 * matrix],
        iterations=4,
        exclude_self=exclude_self,
    )[-1]
    # Four float64 updates of sums of 25 terms each.
    np.testing.assert_allclose(crf.infer(unary, image).reshape(5, -1), expected, atol=1e-11)


def test_float32_follows_float64():
    unary, image = make_image()
    crf = df.ConvCRF(make_kernels(), 5, iterations=4)
    q = crf.infer(unary.astype(np.float32), image)
    assert q.dtype == np.float32
    np.testing.assert_allclose(q, crf.infer(unary, image), atol=1e-5)


def test_kernels_may_have_their_own_compatibility_and_normalisation():
    unary, image = make_image()
    mu, matrix = compatibility("matrix")
    crf = df.ConvCRF(
        make_kernels(compatibility=mu, normalization="after"), 3, shape="diamond", iterations=3
    )
    expected = reference.mean_field(
        unary.reshape(5, -1),
        [
            operators(image, 3, "after", "diamond")[0],
            operators(image, 3, "symmetric", "diamond")[1],
        ],
        [0.7 * matrix, 0.9 * reference.potts(5)],
        iterations=3,
    )[-1]
    np.testing.assert_allclose(crf.infer(unary, image).reshape(5, -1), expected, atol=1e-11)


@pytest.mark.parametrize("form", ["potts", "vector", "matrix"])
@pytest.mark.parametrize("mode", MODES)
def test_divergence_and_energy_equal_the_exact_ones(mode, form):
    unary, image = make_image()
    mu, matrix = compatibility(form)
    crf = df.ConvCRF(make_kernels(), 5, normalization=mode, compatibility=mu, iterations=2)
    q = crf.infer(unary, image)
    labels = q.argmax(axis=0)
    rest = (unary.reshape(5, -1), operators(image, 5, mode), [0.7 * matrix, 0.9 * matrix])
    expected = reference.kl_divergence(q.reshape(5, -1), *rest, exclude_self=True)
    assert crf.kl_divergence(q, unary, image) == pytest.approx(expected, rel=1e-10)
    expected = reference.energy(labels.ravel(), *rest, exclude_self=True)
    assert crf.energy(labels, unary, image) == pytest.approx(expected, rel=1e-10)


def test_a_window_over_the_whole_grid_is_the_dense_model():
    unary, image = make_image((6, 7))
    crf = df.ConvCRF(make_kernels(), 13, iterations=3)
    features = reference.bilateral_features(image, sigma_space=SPACE, sigma_color=COLOR)
    exact = [
        reference.exact_operator(reference.grid_positions((6, 7), sigma=2)),
        reference.exact_operator(features),
    ]
    potts = reference.potts(5)
    expected = reference.mean_field(
        unary.reshape(5, -1), exact, [0.7 * potts, 0.9 * potts], iterations=3
    )[-1]
    np.testing.assert_allclose(crf.infer(unary, image).reshape(5, -1), expected, atol=1e-11)


def test_steps_callback_and_tolerance_work_as_in_the_dense_model():
    unary, image = make_image()
    crf = df.ConvCRF(make_kernels(), 5, iterations=4)
    seen = []
    q = crf.infer(unary, image, callback=lambda i, q: seen.append((i, q)))
    assert [i for i, _ in seen] == [1, 2, 3, 4]
    inference = crf.start(unary, image)
    for _, expected in seen:
        inference.step()
        np.testing.assert_array_equal(inference.q, expected)
    np.testing.assert_array_equal(q, seen[-1][1])
    stopped = df.ConvCRF(make_kernels(), 5, iterations=4, tolerance=10.0).infer(unary, image)
    np.testing.assert_array_equal(stopped, seen[0][1])


def test_the_result_may_replace_the_unary():
    unary, image = make_image(dtype=np.float32)
    crf = df.ConvCRF(make_kernels(), filter_size=5, iterations=4)
    expected = crf.infer(unary, image)
    assert crf.infer(unary, image, out=unary) is unary
    np.testing.assert_array_equal(unary, expected)


def test_a_unary_that_is_changed_during_inference_was_read_before():
    unary, image = make_image()
    crf = df.ConvCRF(make_kernels(), filter_size=5, iterations=4)
    expected = crf.infer(unary, image)
    changed = unary.copy()

    def overwrite(iteration, q):
        changed[:] = 7.0 * iteration * np.arange(5)[:, None, None]

    np.testing.assert_array_equal(crf.infer(changed, image, callback=overwrite), expected)
    steps = crf.prepare(image, dtype=np.float64).start(unary)
    unary[:] = changed
    for _ in range(4):
        steps.step()
    np.testing.assert_array_equal(steps.q, expected)


def test_labels_last_and_out_give_the_same_marginals():
    unary, image = make_image()
    crf = df.ConvCRF(make_kernels(), 5, iterations=2)
    q = crf.infer(unary, image)
    out = np.empty((11, 14, 5))
    assert crf.infer(np.moveaxis(unary, 0, -1), image, label_axis=-1, out=out) is out
    np.testing.assert_array_equal(np.moveaxis(out, -1, 0), q)


@pytest.mark.parametrize("downsampling", [2, 3, 4])
@pytest.mark.parametrize("mode", MODES)
def test_downsampled_operator_has_an_adjoint_and_a_diagonal(mode, downsampling):
    _, image = make_image((9, 10), 1)
    prepared = df.ConvCRF(
        make_kernels()[1:], 3, normalization=mode, downsampling=downsampling
    ).prepare(image, dtype=np.float64)
    num_nodes = 90
    matrix, transpose = np.empty((2, num_nodes, num_nodes))
    prepared._core.apply(0, np.eye(num_nodes), False, matrix.T)
    prepared._core.apply(0, np.eye(num_nodes), True, transpose.T)
    diagonal = np.empty((1, num_nodes))
    prepared._core.diagonal(0, diagonal)
    np.testing.assert_allclose(transpose, matrix.T, atol=1e-13)
    np.testing.assert_allclose(diagonal[0], np.diagonal(matrix), atol=1e-13)


@pytest.mark.parametrize("downsampling", [1, 2, 3, 4])
@pytest.mark.parametrize("window", ["square", "diamond"])
@pytest.mark.parametrize("mode", ["none", "symmetric", "after"])
def test_tiles_give_the_bits_of_the_whole_image(mode, window, downsampling):
    unary, image = make_image((61, 75), 7, np.float32)
    crf = df.ConvCRF(
        make_kernels(),
        3,
        shape=window,
        normalization=mode,
        downsampling=downsampling,
        iterations=2,
    )
    whole = crf.infer(unary, image)
    for tile in (1000, 16, (9, 30)):
        np.testing.assert_array_equal(crf.infer(unary, image, tile=tile), whole)


def test_tiles_of_a_volume_of_own_features_give_the_same_bits():
    rng = np.random.default_rng(2)
    unary = rng.normal(size=(3, 11, 12, 13))
    features = df.Features(rng.normal(size=(11 * 12 * 13, 2)), weight=2)
    crf = df.ConvCRF([features], 3, iterations=2)
    np.testing.assert_array_equal(crf.infer(unary, tile=(5, 12, 4)), crf.infer(unary))


def test_tiles_of_published_scores_give_the_same_bits():
    unary, image = make_image((61, 75), 7, np.float32)
    crf = df.ConvCRF.from_reference_config({"filter_size": 5, "blur": 4}, iterations=2)
    whole = crf.infer(unary, image)
    np.testing.assert_array_equal(crf.infer(unary, image, tile=24), whole)


def test_tiles_read_and_write_memory_maps(tmp_path):
    unary, image = make_image((40, 50), 4, np.float32)
    half = unary.astype(np.float16)
    np.save(tmp_path / "unary.npy", half)
    stored = np.load(tmp_path / "unary.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "q.npy", "w+", np.float32, unary.shape)
    crf = df.ConvCRF(make_kernels(), 5, iterations=2)
    assert crf.infer(stored, image, tile=16, out=out) is out
    np.testing.assert_array_equal(np.load(tmp_path / "q.npy"), crf.infer(half, image))


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (1, 40)])
@pytest.mark.parametrize("downsampling", [1, 4])
def test_images_smaller_than_the_window_are_accepted(grid, downsampling):
    unary, image = make_image(grid)
    q = df.ConvCRF(make_kernels(), 11, downsampling=downsampling).infer(unary, image)
    np.testing.assert_allclose(q.sum(axis=0), 1, rtol=1e-12)


def test_a_constant_image_keeps_equal_marginals():
    q = df.ConvCRF(make_kernels(), 7).infer(np.zeros((4, 9, 9)), np.zeros((9, 9, 3)))
    np.testing.assert_allclose(q, 0.25, rtol=1e-12)


@pytest.mark.parametrize("downsampling", [1, 2])
def test_threads_give_the_same_bits(downsampling):
    unary, image = make_image((90, 110), 21, np.float32)
    crf = df.ConvCRF(make_kernels(), 7, downsampling=downsampling, iterations=3)
    results = []
    for threads in (1, 2, 5):
        with df.num_threads(threads):
            results.append(crf.infer(unary, image))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_refine_takes_the_model():
    unary, image = make_image()
    p = np.exp(-unary) / np.exp(-unary).sum(axis=0)
    crf = df.ConvCRF(make_kernels(), 5)
    expected = crf.infer(df.unary_from_probabilities(p), image).argmax(axis=0)
    np.testing.assert_array_equal(df.refine(image, p, crf=crf), expected)


def test_label_transform_is_added_to_the_message():
    unary, image = make_image()
    rng = np.random.default_rng(4)
    transform, weight = 0.1 * rng.normal(size=(5, 5)), rng.random(5)
    config = {"filter_size": 5, "blur": 1, "convcomp": True, "final_softmax": True}
    crf = df.ConvCRF.from_reference_config(
        config, iterations=1, label_weight=weight, label_transform=transform[..., None, None]
    )
    log_p = reference.log_softmax(-unary.reshape(5, -1))
    features = [
        reference.grid_positions((11, 14), sigma=3),
        image.reshape(-1, 3).astype(np.float64) / 13,
    ]
    message = sum(
        w * reference.window_filter(log_p.T, f, shape=(11, 14), filter_size=5).T
        for w, f in zip((3, 10), features, strict=True)
    )
    expected = (1 - weight)[:, None] * log_p + weight[:, None] * (message + transform @ message)
    result = crf.infer(unary, image).reshape(5, -1)
    np.testing.assert_allclose(result, reference.softmax(expected), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"filter_size": 6}, ValueError, "filter_size of a square window must be odd"),
        ({"downsampling": 0}, ValueError, "downsampling must be 1 or more"),
        ({"start_from": "zero"}, ValueError, "start_from must be"),
        ({"output": 1}, TypeError, "output must be"),
        ({"unary_weight": np.nan}, ValueError, "unary_weight must be a finite number"),
        ({"unary_weight": np.ones((2, 2))}, ValueError, "unary_weight must be one number"),
        ({"unary_weight": [1.0, 2.0]}, ValueError, "unary_weight has 2 values"),
        ({"iterations": -1}, ValueError, "iterations must be 0 or more"),
    ],
)
def test_bad_options_are_refused(options, error, text):
    unary, image = make_image()
    with pytest.raises(error, match=text):
        df.ConvCRF(make_kernels(), **options).infer(unary, image)


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        ([], TypeError, "config must be a dictionary"),
        ({"blurr": 4}, ValueError, r"unknown keys \['blurr'\]"),
        ({"pos_feats": {"sigma": 3}}, ValueError, "pos_feats has unknown keys"),
        ({"norm": "after"}, ValueError, "norm must be 'none' or 'sym'"),
        ({"weight": "matrix"}, ValueError, "weight must be None, 'scalar' or 'vector'"),
        ({"convcomp": True}, ValueError, "label_transform"),
        ({"softmax": False}, ValueError, "softmax must be True"),
    ],
)
def test_bad_configurations_are_refused(config, error, text):
    with pytest.raises(error, match=text):
        df.ConvCRF.from_reference_config(config)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"tile": 0}, "tile must be 1 or more"),
        ({"tile": (4, 4, 4)}, "tile has 3 values, but the grid has 2"),
        ({"tile": 4, "callback": lambda i, q: False}, "tile needs a fixed number"),
    ],
)
def test_bad_tiles_are_refused(options, text):
    unary, image = make_image()
    with pytest.raises(ValueError, match=text):
        df.ConvCRF(make_kernels(), 3).infer(unary, image, **options)


def test_grids_of_four_dimensions_are_refused():
    with pytest.raises(ValueError, match="windows need a grid of 1 to 3 dimensions, got 4"):
        df.ConvCRF([df.Gaussian(sigma_space=1)], 3).infer(np.zeros((2, 2, 2, 2, 2)))


def test_the_command_line_offers_the_model():
    model = pytest.importorskip("densefield.cli.model", reason="the extra cli is not installed")
    crf = model.build_crf({"model": "conv", "filter_size": 5, "weight": 2.0})
    assert isinstance(crf, df.ConvCRF)
    assert (crf.filter_size, crf.kernels[1].weight) == (5, 2.0)
    assert not isinstance(model.build_crf({"model": "dense"}), df.ConvCRF)
