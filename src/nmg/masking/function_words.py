"""Words that carry little information about a domain: words without letters, and English function words.

There are no lists for other languages. `masking.anchors` therefore also excludes the most frequent words of general
text, in any language.
"""

_ENGLISH = """
a an the this that these those each every either neither both all any some no none such another other others own same
one two three first second many much more most few fewer less least several enough half whole
i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
herself it its itself they them their theirs themselves who whom whose which what whatever whoever someone anyone
everyone something anything everything nothing nobody there here
about above across after against along among around as at before behind below beneath beside between beyond by
despite down during except for from in inside into like near of off on onto out outside over past per since through
throughout till to toward towards under until up upon via with within without
and but or nor so yet if unless because although though while whereas whether than then thus hence therefore however
moreover furthermore also too very just even only still already again ever never always often almost quite rather
really now when where why how not once perhaps maybe indeed instead else
am is are was were be been being have has had having do does did doing done can could may might must shall should
will would ought cannot don doesn didn isn aren wasn weren hasn haven hadn won wouldn couldn shouldn mustn ain ll ve
re let get gets got
"""
"""Determiners, numerals, pronouns, prepositions, linking words, and auxiliaries with their contracted parts."""
ENGLISH = frozenset(_ENGLISH.split())
"""English function words, in lower case."""


def is_function_word(word: str) -> bool:
    """Return whether `word` (lower case) is in `ENGLISH` or has fewer than two letters.

    In scripts without upper and lower case, one letter suffices, because it may be a content word.
    """
    letters = [character for character in word if character.isalpha()]
    is_caseless = any(character.lower() == character.upper() for character in letters)
    return word in ENGLISH or len(letters) < (1 if is_caseless else 2)
