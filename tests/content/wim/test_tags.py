# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dpd.content.description import TAG
from dpd.content.wim.tags import MAX_TAGS, image_tags
from dpd.content.wim.xml import ImageSummary

PRO = ImageSummary(1, "Pro", "x64", 1, edition="Professional", version="10.0.26100.1", languages=("de-DE", "en-US"))


def test_an_image_gives_its_tags() -> None:
    assert image_tags([PRO]) == (
        "architecture=x64",
        "edition=Professional",
        "language=de-DE",
        "language=en-US",
        "version=10.0.26100.1",
    )


def test_several_images_give_each_tag_once() -> None:
    core = replace(PRO, index=2, edition="Core", languages=("de-DE",))
    assert image_tags([PRO, core]) == tuple(sorted({*image_tags([PRO]), "edition=Core"}))


def test_an_image_without_windows_gives_none() -> None:
    assert image_tags([ImageSummary(1, "Debian", "", 5)]) == ()
    assert image_tags([ImageSummary(1, "odd", "unknown (77)", 5, edition="My own edition")]) == ()


@given(st.lists(st.builds(replace, st.just(PRO), edition=st.text(), languages=st.lists(st.text()).map(tuple))))
def test_whatever_a_file_says_its_tags_are_tags(images: list[ImageSummary]) -> None:
    tags = image_tags(images)
    assert all(map(TAG.fullmatch, tags))
    assert len(tags) <= MAX_TAGS
