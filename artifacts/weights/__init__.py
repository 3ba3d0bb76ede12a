"""Weights of the built-in workloads, as state dicts for ``torch.load(..., weights_only=True)``.

``fp32_baseline.pt``
    of ``cifar10_cnn``, trained on the 50,000 training images of CIFAR-10, JPEG copy, in 45 epochs by
    ``qx train --workload cifar10_cnn --data DIR``. Top-1 on the 10,000 test images: see README.
    The copy is not the original pixels: these weights are for measuring on that copy.
``digits_cnn.pt``
    of ``digits_cnn``, trained on the 1,297 training images of scikit-learn's digits, in 15 epochs by
    ``qx train --workload digits_cnn``. Top-1 on the 500 test images: 99.8 %.
``sensor_series.pt``, ``sentence_pairs.pt``, ``friedman_regressor.pt``, ``shapes_segmenter.pt``,
``shapes_detector.pt``, ``digits_embedding.pt``
    of the workloads of these names, in half precision, on one thread, by the hook that ``qx train --workload
    NAME`` calls. What they reach: see ``docs/workloads.md``.
``stdlib_lm.pt``, with ``stdlib_lm_text.json.gz``, ``stdlib_lm_tokenizer.json`` and ``stdlib_lm_LICENSE.txt``
    of ``stdlib_lm``, in half precision, made from the library of Python 3.13.0 in 900 steps (two passes over
    1,870,735 tokens) by ``qx train --workload stdlib_lm --set stdlib_lm.steps=900 --set
    stdlib_lm.library=DIR``. The training was interrupted and went on from its checkpoints, with other numbers
    of steps in between, so the learning rate fell in the last 225 steps alone.

All with seed 0, the first two and the last on two threads.
"""
