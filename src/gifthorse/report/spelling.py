"""Names of methods as the field spells them."""

_SPELLED = {
    "abs": "ABS",
    "anp": "ANP",
    "badnets": "BadNets",
    "bnp": "BNP",
    "bpp": "BPP",
    "bti_dbf": "BTI-DBF",
    "bti_dbf_u": "BTI-DBF (U)",
    "clp": "CLP",
    "crow": "CROW",
    "feature_re": "FeatureRE",
    "ft_sam": "FT-SAM",
    "ftrojan": "FTrojan",
    "i_bau": "I-BAU",
    "ibd_psc": "IBD-PSC",
    "lira": "LIRA",
    "mm_bd": "MM-BD",
    "nad": "NAD",
    "neural_cleanse": "Neural Cleanse",
    "onion": "ONION",
    "rap": "RAP",
    "rnp": "RNP",
    "sau": "SAU",
    "scale_up": "SCALE-UP",
    "scan": "SCAn",
    "sig": "SIG",
    "spectre": "SPECTRE",
    "ssba": "SSBA",
    "strip": "STRIP",
    "strip_text": "STRIP (text)",
    "tact": "TaCT",
    "teco": "TeCo",
    "ted": "TED",
    "trojan_nn": "TrojanNN",
    "wanet": "WaNet",
}


def title(name: str) -> str:
    """A plugin's name as a headline: ``spectral_signatures`` becomes “Spectral signatures”.

    Methods that have a name of their own keep its spelling: ``badnets`` is “BadNets”.
    """
    if name in _SPELLED:
        return _SPELLED[name]
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:] if words else "–"
