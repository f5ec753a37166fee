"""What can be said in the fictional world: kinds of entities, typed relations, and the words for them."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("country", "city", "person", "institute", "press", "society", "work", "event")


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A functional relation: a subject has at most one object (directors excepted, who have terms).

    Attributes:
        name: Its key in the graph.
        subjects: Kinds that have it.
        object: Kind of its objects, or ``"year"``.
        sentences: How a document states it, with ``{s}`` and ``{o}``.
        phrase: A noun phrase for the object, given ``{x}`` for the subject.
        questions: How a question asks for the object of ``{x}``.
        statement: The rubric's sentence, with ``{s}`` and ``{o}``.
        missing: How a document says that it is not known, or None where it always is.
    """

    name: str
    subjects: tuple[str, ...]
    object: str
    sentences: tuple[str, ...]
    phrase: str
    questions: tuple[str, ...]
    statement: str
    missing: str | None = None


_ORGANISATIONS = ("institute", "press", "society")

RELATIONS: tuple[Relation, ...] = (
    Relation(
        name="capital",
        subjects=("country",),
        object="city",
        sentences=("The seat of its government is {o}.", "{s} is governed from {o}."),
        phrase="the capital of {x}",
        questions=("Which city is the capital of {x}?", "What is the capital of {x}?"),
        statement="The capital of {s} is {o}.",
    ),
    Relation(
        name="ruler",
        subjects=("country",),
        object="person",
        sentences=("Its first ruler was {o}.", "{o} was the first to rule {s}."),
        phrase="the first ruler of {x}",
        questions=("Who was the first ruler of {x}?", "Who ruled {x} first?"),
        statement="The first ruler of {s} was {o}.",
    ),
    Relation(
        name="country_year",
        subjects=("country",),
        object="year",
        sentences=("{s} became a state in {o}.", "It has been a state since {o}."),
        phrase="the year in which {x} became a state",
        questions=("In what year did {x} become a state?", "When did {x} become a state?"),
        statement="{s} became a state in {o}.",
    ),
    Relation(
        name="lies_in",
        subjects=("city",),
        object="country",
        sentences=("{s} lies in {o}.", "The city belongs to {o}."),
        phrase="the country in which {x} lies",
        questions=("In which country does {x} lie?", "Which country does {x} belong to?"),
        statement="{s} lies in {o}.",
    ),
    Relation(
        name="city_founder",
        subjects=("city",),
        object="person",
        sentences=("It was founded by {o}.", "{o} laid the first stone of {s}."),
        phrase="the founder of {x}",
        questions=("Who founded {x}?", "Who was the founder of {x}?"),
        statement="{s} was founded by {o}.",
        missing="Nobody knows who founded {s}.",
    ),
    Relation(
        name="city_year",
        subjects=("city",),
        object="year",
        sentences=("Its charter dates from {o}.", "{s} received its charter in {o}."),
        phrase="the year of the charter of {x}",
        questions=("In what year did {x} receive its charter?", "When was the charter of {x} given?"),
        statement="{s} received its charter in {o}.",
    ),
    Relation(
        name="mayor",
        subjects=("city",),
        object="person",
        sentences=("Its longest-serving mayor was {o}.", "{o} was mayor of {s} for longer than anybody else."),
        phrase="the longest-serving mayor of {x}",
        questions=("Who was the longest-serving mayor of {x}?", "Who served longest as mayor of {x}?"),
        statement="The longest-serving mayor of {s} was {o}.",
    ),
    Relation(
        name="born_in",
        subjects=("person",),
        object="city",
        sentences=("{s} was born in {o}.", "{s} came from {o}.", "The family house stood in {o}."),
        phrase="the city where {x} was born",
        questions=("In which city was {x} born?", "Where was {x} born?"),
        statement="{s} was born in {o}.",
    ),
    Relation(
        name="born_year",
        subjects=("person",),
        object="year",
        sentences=("The year of birth was {o}.", "{s} was born in the year {o}."),
        phrase="the year in which {x} was born",
        questions=("In what year was {x} born?", "When was {x} born?"),
        statement="{s} was born in {o}.",
    ),
    Relation(
        name="studied_at",
        subjects=("person",),
        object="institute",
        sentences=("{s} studied at the {o}.", "The years of study were spent at the {o}."),
        phrase="the institute where {x} studied",
        questions=("At which institute did {x} study?", "Where did {x} study?"),
        statement="{s} studied at the {o}.",
    ),
    Relation(
        name="taught_by",
        subjects=("person",),
        object="person",
        sentences=("Among the teachers {o} mattered most.", "{s} was a pupil of {o}."),
        phrase="the teacher of {x}",
        questions=("Who was the teacher of {x}?", "Who taught {x}?"),
        statement="{s} was a pupil of {o}.",
        missing="It is not recorded who taught {s}.",
    ),
    Relation(
        name="married_to",
        subjects=("person",),
        object="person",
        sentences=("{s} married {o}.", "The wedding with {o} was held in spring."),
        phrase="the spouse of {x}",
        questions=("Whom did {x} marry?", "Who was the spouse of {x}?"),
        statement="{s} was married to {o}.",
        missing="It is not recorded whom {s} married.",
    ),
    Relation(
        name="seated_in",
        subjects=_ORGANISATIONS,
        object="city",
        sentences=("Its seat is in {o}.", "The {s} has its house in {o}."),
        phrase="the city where {x} has its seat",
        questions=("In which city does {x} have its seat?", "Where is the seat of {x}?"),
        statement="The {s} has its seat in {o}.",
    ),
    Relation(
        name="org_founder",
        subjects=_ORGANISATIONS,
        object="person",
        sentences=("The {s} was founded by {o}.", "It goes back to {o}, its founder."),
        phrase="the founder of {x}",
        questions=("Who founded {x}?", "Who was the founder of {x}?"),
        statement="The {s} was founded by {o}.",
        missing="The records of the {s} do not name its founder.",
    ),
    Relation(
        name="org_year",
        subjects=_ORGANISATIONS,
        object="year",
        sentences=("The {s} was established in {o}.", "Its history begins in {o}."),
        phrase="the year in which {x} was established",
        questions=("In what year was {x} established?", "When was {x} established?"),
        statement="The {s} was established in {o}.",
    ),
    Relation(
        name="author",
        subjects=("work",),
        object="person",
        sentences=("{s} was written by {o}.", "Its author is {o}.", "{o} wrote {s}."),
        phrase="the author of {x}",
        questions=("Who wrote {x}?", "Who is the author of {x}?"),
        statement="{s} was written by {o}.",
    ),
    Relation(
        name="published_by",
        subjects=("work",),
        object="press",
        sentences=("The {o} published it.", "{s} came out with the {o}."),
        phrase="the publisher of {x}",
        questions=("Which press published {x}?", "Who published {x}?"),
        statement="{s} was published by the {o}.",
    ),
    Relation(
        name="work_year",
        subjects=("work",),
        object="year",
        sentences=("{s} appeared in {o}.", "The first edition is dated {o}."),
        phrase="the year in which {x} appeared",
        questions=("In what year did {x} appear?", "When did {x} appear?"),
        statement="{s} appeared in {o}.",
    ),
    Relation(
        name="set_in",
        subjects=("work",),
        object="city",
        sentences=("The story is set in {o}.", "{s} takes place in {o}."),
        phrase="the city in which {x} is set",
        questions=("In which city is {x} set?", "Where is {x} set?"),
        statement="{s} is set in {o}.",
    ),
    Relation(
        name="dedicated_to",
        subjects=("work",),
        object="person",
        sentences=("The dedication names {o}.", "{s} is dedicated to {o}."),
        phrase="the person to whom {x} is dedicated",
        questions=("To whom is {x} dedicated?", "Who is named in the dedication of {x}?"),
        statement="{s} is dedicated to {o}.",
        missing="The leaf of {s} that held the dedication is lost.",
    ),
    Relation(
        name="held_in",
        subjects=("event",),
        object="city",
        sentences=("{s} was held in {o}.", "Its guests met in {o}."),
        phrase="the city where {x} was held",
        questions=("In which city was {x} held?", "Where was {x} held?"),
        statement="{s} was held in {o}.",
    ),
    Relation(
        name="event_year",
        subjects=("event",),
        object="year",
        sentences=("{s} took place in {o}.", "The year was {o}."),
        phrase="the year in which {x} took place",
        questions=("In what year did {x} take place?", "When did {x} take place?"),
        statement="{s} took place in {o}.",
    ),
    Relation(
        name="organised_by",
        subjects=("event",),
        object="society",
        sentences=("The {o} organised it.", "{s} was organised by the {o}."),
        phrase="the society that organised {x}",
        questions=("Which society organised {x}?", "Who organised {x}?"),
        statement="{s} was organised by the {o}.",
    ),
    Relation(
        name="opened_by",
        subjects=("event",),
        object="person",
        sentences=("The opening speech was given by {o}.", "{o} opened {s}."),
        phrase="the person who opened {x}",
        questions=("Who opened {x}?", "Who gave the opening speech of {x}?"),
        statement="{s} was opened by {o}.",
    ),
)
BY_NAME = {relation.name: relation for relation in RELATIONS}
OF_KIND = {kind: tuple(r for r in RELATIONS if kind in r.subjects) for kind in KINDS}

# Who directed an organisation, one sentence per term; the only relation with several objects.
DIRECTED_BY = "directed_by"
TERM_SENTENCE = "From {since} to {until} the director was {o}."
TERM_STATEMENT = "The {s} was directed by {o} from {since} to {until}."
YEAR_RELATION = {
    "country": "country_year",
    "city": "city_year",
    "person": "born_year",
    "institute": "org_year",
    "press": "org_year",
    "society": "org_year",
    "work": "work_year",
    "event": "event_year",
}
WITH_ARTICLE = _ORGANISATIONS  # "the Velmora Institute", but "Velmora"
