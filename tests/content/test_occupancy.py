# SPDX-License-Identifier: Apache-2.0
import threading

import pytest

from dpd.content.occupancy import Occupancy
from dpd.errors import ContentError


def test_closing_waits_for_who_is_inside_and_lets_nobody_in() -> None:
    occupancy = Occupancy("library /x")
    closer = threading.Thread(target=occupancy.close)
    with occupancy.work():
        closer.start()
        while not occupancy.is_closing:
            pass
        with pytest.raises(ContentError, match="library /x: has been closed"), occupancy.work():
            pytest.fail("let in")
        with occupancy.work_if_open() as is_open:
            assert not is_open
        assert closer.is_alive()
    closer.join(30)
    assert not closer.is_alive()
    occupancy.close()


def test_who_fails_inside_is_outside_again() -> None:
    occupancy = Occupancy("library /x")
    with pytest.raises(KeyError), occupancy.work(), occupancy.work():
        raise KeyError
    occupancy.close()
