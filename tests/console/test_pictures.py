"""The pictures' block characters: exact rectangles in the place of glyphs, everything else as it was."""

from screenshots.crisp import crisp

TEXT = '<text class="r1" x="12.2" y="44.4" textLength="{}" clip-path="url(#line-1)">{}</text>'


def test_a_lower_block_becomes_a_rectangle_at_the_bottom_of_its_cells() -> None:
    drawn = crisp(TEXT.format("24.4", "▄▄"))
    assert drawn == '<rect class="r1" x="12.2" y="38.1" width="24.4" height="12.2" shape-rendering="crispEdges"/>'


def test_letters_beside_a_block_keep_their_place() -> None:
    drawn = crisp(TEXT.format("36.6", "█&#160;&lt;"))
    assert 'width="12.2" height="24.4"' in drawn
    assert drawn.endswith('x="24.4" y="44.4" textLength="24.4" clip-path="url(#line-1)">&#160;&lt;</text>')


def test_text_without_blocks_is_left_alone() -> None:
    plain = TEXT.format("61", "│ stop")
    assert crisp(plain) == plain
