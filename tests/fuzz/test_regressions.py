"""What readers once failed at: other exceptions than ours, found by `scripts/fuzz.py`."""

from __future__ import annotations

import pytest

from tests.fuzz.trial import Recipe, attempt, files_of

RECIPES = [
    Recipe("stars", "parquet", ((0, "flip", 3199688456),)),
    Recipe("stars", "parquet", ((0, "flip_head", 1642136167), (0, "flip_head", 3388524255))),
    Recipe("encoder", "encoder", ((0, "json_value", 186780877), (0, "json_value", 2427187948))),
    Recipe("labels_desi", "desi-mwsall", ((0, "values_changed", 674615340),)),
    Recipe(
        "lamost_mrs",
        "lamost-mrs_dr7",
        ((0, "card_size", 1475741557), (0, "hdus_changed", 3025662570)),
    ),
    Recipe("lamost_lrs", "lamost-dr6", ((0, "card_name", 562638206),)),
    Recipe("lamost_lrs", "lamost-dr6", ((0, "card_value", 1551884376),)),
    Recipe(
        "lamost_lrs",
        "lamost-dr6",
        (
            (0, "hdus_changed", 972105125),
            (0, "card_value", 1631144976),
            (0, "values_changed", 2550997970),
        ),
    ),
    Recipe("lamost_lrs", "lamost-dr6", ((0, "card_value", 3816894596),)),
    Recipe("lamost_lrs", "lamost-dr1", ((0, "card_value", 4028430462),)),
    Recipe(
        "lamost_lrs",
        "lamost-dr10",
        ((0, "repeat", 2281955155), (0, "card_value", 3396456213), (0, "card_name", 3135935256)),
    ),
    Recipe("lamost_lrs", "lamost-dr10", ((0, "card_value", 2676208648),)),
    Recipe("lamost_lrs", "lamost-dr1", ((0, "card_name", 2219502573),)),
    Recipe(
        "lamost_lrs", "lamost-dr1", ((0, "card_size", 3623366296), (0, "card_name", 3240549508))
    ),
    Recipe("lamost_lrs", "lamost-dr10", ((0, "card_size", 1872900585),)),
    Recipe("lamost_lrs", "lamost-dr1", ((0, "card_value", 1488927646),)),
    Recipe(
        "lamost_lrs",
        "lamost-dr1",
        ((0, "remove", 956993558), (0, "insert", 3242092207), (0, "card_size", 88259957)),
    ),
    Recipe(
        "lamost_mrs",
        "lamost-mrs_dr9",
        (
            (0, "card_size", 3227634075),
            (0, "hdus_changed", 1968359144),
            (0, "hdus_changed", 1952502285),
        ),
    ),
    Recipe(
        "lamost_mrs",
        "lamost-mrs_dr7",
        ((0, "card_value", 2612709432), (0, "card_value", 1396480561)),
    ),
    Recipe("lamost_mrs", "lamost-mrs_dr7", ((0, "card_value", 945109704),)),
    Recipe(
        "lamost_mrs",
        "lamost-mrs_dr9",
        ((0, "card_value", 3581718285), (0, "card_value", 1956799556), (0, "insert", 3775613613)),
    ),
    Recipe("lamost_mrs", "lamost-mrs_dr9", ((0, "flip", 3820281729),)),
    Recipe("lamost_mrs", "lamost-mrs_dr7", ((0, "card_value", 2629433770),)),
    Recipe("lamost_mrs", "lamost-mrs_dr7", ((0, "card_value", 3157909939),)),
    Recipe("lamost_mrs", "lamost-mrs_dr9", ((0, "card_value", 581280801),)),
    Recipe("sdss_v", "sdss_v-mwmstar", ((0, "card_size", 91642243),)),
    Recipe("sdss_v", "sdss_v-mwmvisit", ((0, "card_name", 1695814769),)),
    Recipe(
        "sdss_v",
        "sdss_v-mwmvisit",
        ((0, "card_name", 1311005943), (0, "card_size", 4179943530), (0, "flip", 2998190721)),
    ),
    Recipe("sdss_v", "sdss_v-mwmstar", ((0, "card_name", 396173853),)),
    Recipe(
        "sdss_v", "sdss_v-mwmstar", ((0, "overwrite", 3999641579), (0, "card_value", 3747726644))
    ),
    Recipe("sdss_v", "sdss_v-mwmvisit", ((0, "card_name", 2630308781),)),
    Recipe("sdss_boss", "sdss_boss-sdss4", ((0, "card_value", 4205793292),)),
    Recipe("sdss_boss", "sdss_boss-sdss5", ((0, "card_size", 3475091050),)),
    Recipe("sdss_boss", "sky-2", ((0, "card_size", 4138997259),)),
    Recipe("desi", "sky-1", ((0, "card_value", 603186606), (0, "hdus_changed", 966858774))),
    Recipe(
        "desi",
        "sky-1",
        ((0, "card_name", 4104041894), (0, "hdus_changed", 2016929030), (0, "pack", 908961088)),
    ),
    Recipe("desi", "sky-1", ((0, "flip", 3305399375), (0, "card_size", 3173030086))),
    Recipe("galah", "sky-5", ((0, "flip_head", 3570275507),)),
    Recipe("galah", "sky-9", ((0, "card_size", 2905095181), (0, "flip_tail", 2203612611))),
    Recipe("galah", "galah-dr4_slit_mask", ((0, "card_size", 1163300205),)),
    Recipe("galah", "sky-2", ((0, "card_size", 3100675880), (0, "card_name", 2444832651))),
    Recipe("galah", "sky-5", ((0, "card_size", 853460693),)),
    Recipe(
        "galah",
        "sky-0",
        (
            (0, "values_changed", 3437908509),
            (0, "card_size", 2768081412),
            (0, "values_changed", 2929626371),
        ),
    ),
    Recipe("galah", "galah-dr3_not_normalised", ((0, "repeat", 4272212586),)),
    Recipe("galah", "sky-8", ((0, "card_size", 2459397740),)),
    Recipe("galah", "sky-9", ((0, "overwrite", 431405339), (0, "card_name", 896188816))),
    Recipe("galah", "sky-1", ((0, "values_changed", 1455382103), (0, "card_value", 3767750200))),
    Recipe("galah", "galah-dr4", ((0, "flip_tail", 494483280), (0, "card_size", 437534609))),
    Recipe(
        "galah",
        "sky-3",
        ((0, "card_name", 2347677740), (0, "insert", 393187352), (0, "card_size", 3157608645)),
    ),
    Recipe(
        "galah",
        "galah-dr4_slit_mask",
        ((0, "hdus_changed", 317615686), (0, "flip_head", 1108340152)),
    ),
    Recipe(
        "galah",
        "galah-dr3",
        ((0, "card_value", 1737476127), (0, "flip_head", 3826198784), (0, "card_name", 2827053356)),
    ),
    Recipe("galah", "sky-11", ((0, "remove", 3309371764),)),
    Recipe("galah", "galah-dr4_fit", ((0, "card_value", 662922795),)),
    Recipe(
        "galah",
        "sky-9",
        ((0, "card_value", 748155241), (0, "remove", 500936793), (0, "card_value", 3259303816)),
    ),
    Recipe("gaia_rvs", "gaia_rvs-raw_fits", ((0, "card_value", 3462297115),)),
    Recipe("gaia_rvs", "gaia_rvs-fits", ((0, "card_name", 4228305886),)),
    Recipe("gaia_rvs", "sky-0", ((0, "card_name", 4154548027), (0, "repeat", 828771941))),
    Recipe("gaia_rvs", "gaia_rvs-fits", ((0, "card_name", 662922291),)),
    Recipe("gaia_rvs", "sky-0", ((0, "card_name", 470387121),)),
    Recipe("gaia_rvs", "sky-0", ((0, "card_name", 864764786),)),
    Recipe("weave", "weave-supertarget", ((0, "flip_tail", 3076125676),)),
    Recipe("weave", "weave-superstack", ((0, "card_size", 3959171749),)),
    Recipe(
        "weave",
        "weave-superstack",
        (
            (0, "flip_tail", 2672927306),
            (0, "values_changed", 1135717039),
            (0, "values_changed", 677590239),
        ),
    ),
    Recipe(
        "weave",
        "weave-supertarget",
        (
            (0, "truncate", 2121237889),
            (0, "values_changed", 1127242401),
            (0, "card_size", 1177453944),
        ),
    ),
    Recipe(
        "weave",
        "weave-single",
        (
            (0, "card_size", 1577728701),
            (0, "hdus_changed", 1593247105),
            (0, "hdus_changed", 806264866),
        ),
    ),
    Recipe("weave", "weave-superstack", ((0, "card_size", 2845295715),)),
    Recipe("weave", "weave-single", ((0, "repeat", 2553799625), (0, "flip", 1570128478))),
    Recipe(
        "weave",
        "weave-superstack",
        (
            (0, "insert", 3909755748),
            (0, "values_changed", 1661927601),
            (0, "hdus_changed", 4242604417),
        ),
    ),
    Recipe(
        "weave",
        "weave-supertarget",
        ((0, "card_value", 3434918437), (0, "values_changed", 3555846111)),
    ),
    Recipe("weave", "weave-superstack", ((0, "repeat", 1652221862),)),
    Recipe(
        "weave", "weave-superstack", ((0, "card_value", 966303424), (0, "truncate", 2449324856))
    ),
    Recipe("weave", "weave-supertarget", ((0, "card_value", 2764823193),)),
    Recipe("fourmost", "eso-unitless", ((0, "card_size", 2276144814),)),
    Recipe("fourmost", "eso-lrs", ((0, "card_name", 2154270435),)),
    Recipe("fourmost", "eso-unitless", ((0, "card_name", 854168381),)),
    Recipe("fourmost", "eso-unitless", ((0, "card_size", 2089332064), (0, "pack", 831486889))),
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda one: f"{one.reader}-{one.steps[0][1]}")
def test_they_are_read_or_refused(recipe):
    attempt(recipe.reader, files_of(recipe))
