"""The template: `{{name}}`, `{{name|fallback}}`, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.template import (
    BLANKS,
    TEMPLATE_CHARS,
    VALUE_CHARS,
    InvalidTemplate,
    Line,
    one_line,
    parse,
    shown,
)

HEADER = ["first_name", "company", "Job Title"]


def line(template: str, *cells: str) -> Line:
    return parse(template).bind(HEADER).line(cells)


def fault(template: str) -> str:
    with pytest.raises(InvalidTemplate) as caught:
        parse(template).bind(HEADER)
    return str(caught.value)


def test_blanks_are_filled_from_their_columns():
    """The example of the documentation, with a value for each blank."""
    filled = line("Hi {{first_name}}, I saw that {{company|your firm}} grows.", "Ann", "ACME", "")

    assert Line("Hi Ann, I saw that ACME grows.") == filled


def test_a_missing_value_takes_the_fallback():
    """A cell of blanks alone counts as missing."""
    assert Line("Hi Ann from your firm") == line(
        "Hi {{first_name}} from {{company|your firm}}", "Ann", " \t "
    )


def test_an_empty_fallback_means_nothing_where_nothing_is():
    """`{{name|}}` says that the blank may be left out."""
    assert Line("Hi!") == line("Hi{{first_name|}}!", "")


def test_a_line_with_a_hole_is_left_empty_and_said():
    """Nobody should be sent "Hi ,"."""
    filled = line("Hi {{first_name}}, {{company}}", "", "ACME")

    assert "" == filled.text
    assert ("no value for first_name and no fallback, so the line is left empty",) == filled.problems


def test_a_short_row_has_no_values_for_the_columns_it_lacks():
    """A ragged row is a missing value, not an error."""
    assert "Hi Ann at work" == line("Hi {{first_name}} at {{company|work}}", "Ann").text


def test_blanks_around_names_and_fallbacks_do_not_count():
    """`{{ name | fallback }}` is what people write."""
    assert "Ann, boss" == line("{{ first_name }}, {{ Job Title | boss }}", "Ann", "", "").text


def test_a_column_is_found_without_regard_to_capitals_if_none_fits_exactly():
    """Exports say First_Name where people write first_name."""
    assert "Ann" == line("{{FIRST_NAME}}", "Ann").text
    assert "b" == parse("{{Name}}").bind(["name", "Name"]).line(["a", "b"]).text


def test_a_mark_before_the_first_name_does_not_hide_it():
    """A file that was marked twice keeps one mark as text."""
    assert "Ann" == parse("{{name}}").bind(["\ufeffname "]).line(["Ann"]).text


def test_of_columns_with_the_same_name_the_first_is_read_and_said():
    """Only for a name that the template uses."""
    merge = parse("{{a}}").bind(["a", "b", "a", "b"])

    assert "1" == merge.line(["1", "2", "3", "4"]).text
    assert ("a",) == merge.doubled


def test_values_become_one_line():
    """A cell may hold line ends and control characters; a line may not."""
    assert "Hi Ann Lee" == line("Hi {{first_name}}", " Ann\r\n\tLee\0 ").text


def test_a_value_is_cut_where_it_would_make_the_line_endless():
    """A hundred blanks and one huge cell must not fill the memory."""
    filled = line("{{first_name}}", "x" * 5_000_000)

    assert "x" * VALUE_CHARS + "…" == filled.text
    assert (f"first_name was cut after {VALUE_CHARS:,} characters",) == filled.problems


def test_a_column_that_the_file_lacks_is_named_with_those_it_has():
    """Also where there is a fallback: a typing error would otherwise ruin 50,000 lines silently."""
    expected = (
        "The template asks at character 4 for the column 'compny', which the file does not have; "
        "it has: first_name, company, Job Title."
    )

    assert expected == fault("Hi {{compny|your firm}}")


def test_a_long_list_of_columns_is_cut():
    """The sentence stays readable and within an event's size."""
    with pytest.raises(InvalidTemplate, match=r"c19 and 80 more\.$"):
        parse("{{x}}").bind([f"c{n}" for n in range(100)])


@pytest.mark.parametrize(
    ("template", "position"),
    [
        ("Hi {{first_name}", 4),
        ("Hi {first_name}", 4),
        ("Hi {{first_name", 4),
        ("Hi first_name}}", 14),
        ("{{{first_name}}}", 1),
        ("{{first_name}}}", 15),
        ("{{a{{b}}}}", 1),
        ("{{{{first_name}}}}", 1),
        ("{% for x in y %}", 1),
        ("a } b", 3),
    ],
)
def test_braces_that_are_no_whole_blank_are_refused_with_their_place(template: str, position: int):
    """A single brace is a typing error more often than text."""
    assert f"at character {position} " in fault(template)
    assert "{{column}} and {{column|fallback}}" in fault(template)


@pytest.mark.parametrize("template", ["Hi {{}}", "Hi {{ }}", "Hi {{|you}}"])
def test_a_blank_without_a_name_is_refused(template: str):
    """There is nothing to look for."""
    assert "The blank at character 4 of the template names no column." == fault(template)


def test_a_second_fallback_is_refused():
    """It would look like a choice of columns, and be none."""
    assert "more than one fallback" in fault("{{first_name|company|you}}")


@pytest.mark.parametrize("template", ["", " \n"])
def test_an_empty_template_is_refused(template: str):
    """With an example of what to write."""
    assert "The template is empty: write a line such as Hi {{first_name|there}}!" == fault(template)


def test_templates_are_bounded():
    """In characters and in blanks."""
    assert "10,001 characters; 10,000 are allowed" in fault("x" * (TEMPLATE_CHARS + 1))
    assert f"more than {BLANKS} blanks" in fault("{{first_name}}" * (BLANKS + 1))
    assert "Ann" * BLANKS == line("{{first_name}}" * BLANKS, "Ann").text


def test_half_a_character_is_refused():
    """It could not be written to any file."""
    assert "lone surrogate) at character 4" in fault("Hi \udc80")


def test_a_template_of_nothing_but_text_is_the_same_for_every_row():
    """Allowed: no blank is needed."""
    assert "Hello." == line("Hello.").text


@given(st.text())
def test_any_text_is_a_template_or_refused_with_a_sentence(text: str):
    """Never another error."""
    try:
        parse(text)
    except InvalidTemplate as error:
        assert str(error).startswith("The ")


@given(st.text(alphabet="{}|ab ", max_size=30))
def test_what_is_accepted_has_balanced_blanks(text: str):
    """Taking all blanks out of an accepted template leaves no brace."""
    try:
        template = parse(text)
    except InvalidTemplate:
        return

    assert not any(set("{}") & set(part) for part in template.literals())


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="{}"), min_size=1))
def test_text_without_braces_comes_out_as_it_went_in(text: str):
    """Literal text is never changed."""
    if text.strip():
        assert text[:TEMPLATE_CHARS] == parse(text[:TEMPLATE_CHARS]).bind([]).line([]).text


def test_names_in_messages_are_short_and_can_be_encoded():
    """A header may hold anything."""
    assert "a b" == shown(" a\n b\0")
    assert 61 == len(shown("x" * 1_000_000))
    assert "\ufffd" == shown("\udcff")
    assert "abc" == one_line("abcdef", 3)
