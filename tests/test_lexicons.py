import pytest

from thinkscale.errors import SpecError
from thinkscale.lexicons import count, phrases

LISTS = ("hedging-1", "thinking-1", "discourse-1", "verification-1")


@pytest.mark.parametrize("name", LISTS)
def test_a_list_holds_every_phrase_once_as_it_is_compared(name):
    found = phrases(name)
    assert len(found) > 20
    assert len(set(found)) == len(found)
    assert all(phrase == " ".join(phrase.casefold().split()) for phrase in found)


@pytest.mark.parametrize("name", LISTS)
def test_every_phrase_of_a_list_is_found(name):
    assert all(count(f"So: {phrase.upper()}.", phrases(name)) >= 1 for phrase in phrases(name))


def test_every_word_of_the_answer_lists_has_a_language_and_a_role():
    roles = {"name", "result", "link", "after", "hollow", "abstain", "refuse"}
    roles |= {"yes", "no", "run", "conclude", "choose", "reason"}
    lines = [line.split(" ", 2) for line in phrases("answers-1")]
    assert all(len(line) == 3 and len(line[0]) == 2 and line[1] in roles for line in lines)
    assert len({tuple(line) for line in lines}) == len(lines)
    assert {"en", "de", "ru", "ar", "hi", "ko", "zh", "ja", "fr", "es", "pt"} <= {line[0] for line in lines}
    assert all(line.split()[2].isdigit() for line in phrases("number-words-1"))


def test_a_list_that_does_not_exist_is_refused_by_its_nearest_name():
    with pytest.raises(SpecError, match="did you mean `hedging-1`"):
        phrases("hedging-2")


def test_whole_phrases_are_counted_whatever_their_case_and_spacing():
    assert count("Maybe it is, MAYBE\nnot; mayberry.", ("maybe",)) == 2
    assert count("I'm  not\nsure. I’m not sure", ("i'm not sure",)) == 2


def test_of_overlapping_phrases_the_longest_counts():
    assert count("It seems like rain.", ("seems", "seems like", "it seems")) == 1


def test_marks_in_a_phrase_are_taken_as_they_are():
    assert count("a+b? a+b", ("a+b?",)) == 1
    assert count("anything", ()) == 0
