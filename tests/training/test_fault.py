from __future__ import annotations

import pytest

from trainyard.errors import InputError
from trainyard.training.fault import VARIABLE, Fault, install, parse


def test_faults_are_read() -> None:
    assert parse("kill:rank1:step17:phase=backward,nan:step3:phase=forward:repeat:settled") == [
        Fault(action="kill", rank=1, step=17, phase="backward"),
        Fault(action="nan", step=3, phase="forward", repeat=True, settled=True),
    ]


@pytest.mark.parametrize(
    "text", ["kill", "kill:step1", "melt:step1:phase=forward", "kill:step1:phase=lunch", "nan:step1:phase=save"]
)
def test_a_fault_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=f"{VARIABLE}: found {text}, expected such as kill:rank1:step17:phase=backward"):
        parse(text)


def test_without_the_variable_there_is_no_callback(tmp_path_factory: pytest.TempPathFactory) -> None:
    assert install(tmp_path_factory.mktemp("scratch"), 0) == []
