"""Sentences about an audit, from records made by hand."""

from dataclasses import replace

import pytest
from audit_records import audit_of, window

from qtablate.audit.records import Measurement, tolerance
from qtablate.audit.summary import headline, remarks, summary
from qtablate.audit.tables import tables


def test_summary_of_an_audit_that_passed_has_the_largest_differences():
    audit = audit_of(window(1), window(4), window(8, same=3e-7))
    assert audit.passed
    assert summary(audit) == (
        "Passed: at accumulation 1, 4 and 8 the gradient of a window is that of one batch of the same samples; the relative "
        "difference is at most 3.0e-07 in fp32 (tolerance 1e-05), 1.0e-15 in fp64 (tolerance 1e-12)."
    )
    assert headline(audit).startswith(
        "nano in fp32, 1,234 trained parameters (all rows new), micro-batches of 2 samples of world"
    )


@pytest.mark.parametrize(
    ("changes", "fields", "text"),
    [
        (
            {"same": 0.1, "fp64": 0.1},
            {},
            "Failed: at accumulation 4 the window differs from one batch by 0.100 (tolerance 1e-05).",
        ),
        (
            {"fp64": 1e-6},
            {},
            "Failed: at accumulation 4 the window in fp64 differs from one batch in fp64 by 1.0e-06 (tolerance",
        ),
        ({"same": 2e-5}, {"padded_left": True}, "In fp64 the two agree: the difference is rounding, not an incorrect rule."),
        ({"same": 0.1, "fp64": 0.1, "repeat": 0.1}, {"padded_left": True}, "The same batch run twice differs too"),
        ({"same": 0.1, "fp64": 0.1}, {"padded_left": True}, "padded on the left (qformer_padded_left)"),
        ({"same": float("nan")}, {}, "differs from one batch by nan"),
    ],
)
def test_summary_of_an_audit_that_failed_has_the_window_and_the_likely_cause(changes, fields, text):
    audit = audit_of(window(1), window(4, **changes), **fields)
    assert not audit.passed
    assert text in summary(audit)
    assert "accumulation 1 " not in summary(audit)


def test_rejected_model_fails_and_has_a_schedule_only():
    audit = replace(audit_of(window(4)), measurement=Measurement((), "layer 'x' is a BatchNorm1d", (), False, {}))
    assert not audit.passed
    assert summary(audit) == "Failed: layer 'x' is a BatchNorm1d"
    assert [table.title for table in tables(audit)] == ["Learning rate"]
    assert remarks(audit) == []


def test_tolerance_grows_with_the_rounding_of_one_batch_up_to_a_maximum():
    assert tolerance("fp32", None) == tolerance("fp32", 1e-6) == 1e-5
    assert tolerance("fp32", 1e-4) == pytest.approx(1.1e-4)
    assert tolerance("fp32", 0.5) == 1e-3
    assert tolerance("bf16", 0.5) == 5e-2


def test_remarks_on_dropout_references_clips_micro_mean_and_trainer():
    dropout, reference, clips, micro_mean, trainer = remarks(
        audit_of(
            window(1, micro_mean=0.0),
            window(4, trainer_mean=0.1),
            dropout=("a.b", "c"),
            trainer_version="5.0",
            missing_references={"fp64": "too large"},
            skipped_clips=("x\x1b: broken",),
        )
    )
    assert dropout.startswith("Dropout: 2 layers draw random masks (the first: a.b).")
    assert "measured with dropout disabled" in dropout
    assert reference == "No reference in fp64: too large."
    assert clips.startswith("Skipped 1 clips that cannot be read: x")
    assert "\x1b" not in clips
    assert "gives short answers more weight: it changes the gradient by up to 10 %" in micro_mean
    assert "its gradient is the same (difference at most 0)" in trainer
    assert trainer.endswith("the gradient differs by up to 0.100.")


def test_micro_mean_is_harmless_with_answers_of_equal_length():
    [remark] = remarks(audit_of(window(4, tokens=(7, 7, 7, 7), micro_mean=1e-7)))
    assert "is harmless here, since all micro-batches of a window hold equally many supervised tokens" in remark
    [remark] = remarks(audit_of(window(4, tokens=(7, 7, 7, 7), micro_mean=0.1)))
    assert "harmless" not in remark
