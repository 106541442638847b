import pickle

import pytest

from imagen_jax.data.records import BadRecordError


@pytest.mark.parametrize(
    ("detail", "text"), [("7 x 9", "too small: 7 x 9"), ("", "too small")]
)
def test_an_error_says_its_reason_and_survives_pickling(detail, text):
    error = BadRecordError("too small", detail)
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert each.reason == "too small"
        assert str(each) == text
