"""Words that captions of things in rooms are made of, by part of speech."""

from __future__ import annotations


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLORS = _split(
    "amber aqua azure beige black blond blonde blue bluish brown brownish brunette burgundy "
    "charcoal colorful colourful colorless cream crimson cyan golden gray grayish green greenish "
    "grey greyish indigo ivory lavender lilac magenta maroon mauve monochrome multicolor "
    "multicolored navy olive orange pale pink pinkish purple purplish red reddish rosy rusty "
    "scarlet silver silvery tan taupe teal turquoise violet white whitish yellow yellowish"
)
LOOKS = _split(
    "wooden woolen metallic ceramic earthen silken leathery woody stony sandy "
    "transparent translucent opaque clear reflective see-through "
    "big great huge large enormous giant massive oversized small little tiny mini miniature "
    "compact tall high low short long lengthy wide broad narrow thin slim slender thick fat deep "
    "shallow medium average full-size life-size standard "
    "round circular rectangular square oval oblong triangular hexagonal octagonal cylindrical "
    "spherical conical flat curved curvy straight bent crooked diagonal vertical horizontal "
    "upright sloping slanted angular arched domed hollow solid pointy pointed sharp blunt "
    "irregular uneven even level steep inverted "
    "plain fancy ornate decorative floral geometric plaid checkered spotty dotty "
    "abstract "
    "smooth rough bumpy soft hard fluffy furry fuzzy hairy silky shaggy grainy glossy matte shiny "
    "dull slick sticky slippery sleek coarse plush woolly foamy "
    "dark light bright dim vivid vibrant sunny shady luminous "
    "open empty full half-full bare blank vacant occupied available ajar loose tight "
    "clean dirty dusty muddy messy tidy neat unmade untidy "
    "wet dry damp moist cold cool warm hot frozen fresh stale ripe raw "
    "new old ancient antique vintage modern contemporary classic traditional retro rustic "
    "old-fashioned young worn worn-out shabby broken intact whole "
    "nice beautiful pretty ugly lovely cute cozy comfortable elegant stylish simple basic "
    "luxurious cheap expensive odd strange weird unusual unique typical common normal regular "
    "heavy lightweight portable mobile foldable adjustable removable electric electronic "
    "digital analog automatic manual mechanical industrial commercial residential domestic "
    "public private personal professional medical musical natural artificial fake "
    "real live alive dead wild tropical oriental asian european american french english chinese "
    "japanese persian turkish italian victorian "
    "single double triple twin multiple several many few various other different similar same "
    "separate individual main central upper lower outer inner left right front rear "
    "middle bottom top far nearby close distant external internal interior exterior "
    "visible blurry unclear indoor outdoor "
    "royal festive holy religious happy sad angry busy quiet calm sleepy ready able female male "
    "nude naked bald human thirsty hungry safe dangerous strong weak rich poor good bad fine "
    "more most less least such"
)
MATERIALS = _split(
    "aluminium aluminum bamboo brass brick bronze canvas cardboard cement chrome clay cloth "
    "concrete copper cork cotton denim fabric fiberglass foam fur glass gold granite iron lace "
    "leather linen marble mesh metal nylon oak paper pine plaster plastic plywood porcelain "
    "quartz rattan rope rubber satin silk slate stainless steel stone straw suede teak tile "
    "velvet vinyl walnut wicker wire wood wool"
)
"""Nouns that say of what a thing is made."""
DETERMINERS = _split("a an the this these those some any another each every no all both")
PREPOSITIONS = _split(
    "about above across against along alongside among around as at atop before behind below "
    "beneath beside besides between beyond by during for from in inside into like near of off "
    "on onto out outside over past per through throughout toward towards under "
    "underneath until up upon via with within without"
)
CONJUNCTIONS = _split("and or but nor &")
PRONOUNS = _split(
    "i you he she it we they me him her us them itself himself herself themselves something someone"
)
POSSESSIVES = _split("my your his its our their")
RELATIVES = _split("that which who whose where what")
NUMBERS = _split("one two three four five six seven eight nine ten eleven twelve dozen")
ADVERBS = _split(
    "very too quite rather really mostly partially partly slightly almost also just only not "
    "there here next together away neatly fully completely half "
    "upside downward upward nearly perhaps still"
)
SINGULAR_VERBS = _split(
    "is has appears contains covers features hangs holds leads looks sits stands leans lies "
    "rests seems shows wears does"
)
PLURAL_VERBS = _split("are have do appear sit stand hang")
PAST_VERBS = _split("was were had")
PARTICIPLES = _split(
    "built made hung shut split cut set lit bent drawn torn written woven shown "
    "stuck sewn held kept laid unlit"
)
"""Participles without an ending of their own; one in the lists above counts as an adjective."""
NOUNS_IN_ING = _split(
    "awning bedding building ceiling clothing coating covering cushioning drawing dressing "
    "evening flooring frosting icing landing lighting lining molding moulding morning opening "
    "painting paneling parking piping plumbing railing ring roofing seating shelving siding "
    "spring string thing tiling trimming wing wiring writing nothing"
)
NOUNS_IN_ED = _split("bed seed weed shed red reed bread thread shred sled need feed speed breed")
NOUNS_LIKE_ADJECTIVES = _split(
    "bible cable crucible handful mouthful spoonful stable syllable table timetable turntable "
    "vegetable worktable"
)
PARTS = _split(
    "arm armrest back backside base bottom bunch center centre close-up closeup collection "
    "corner couple edge end face front group half handle headboard kind leg lot middle pair "
    "part patch piece pile portion row section set shot side sort stack surface tip top type "
    "underside view"
)
"""Nouns that, before "of", say how much or which part of the thing is meant."""
