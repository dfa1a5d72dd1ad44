"""Every warning of `check` by its slug, with the sentence that says why it matters.

Owns the slugs: they are what people silence, so none is ever renamed.
"""

WHY = {
    "bad_silence": "What cannot be read silences nothing.",
    "empty_group": "Its limits hold for nobody: who should be in it gets the default group's.",
    "expired": "It holds nothing back any more, and somebody may still rely on it.",
    "missing_file": "Members that are written nowhere are members of the default group.",
    "never_acts": "It looks like protection against something, and none is there.",
    "never_matches": "It looks like protection against something, and none is there.",
    "no_rules": "Nothing is ever warned about, stopped or removed.",
    "no_warning": "Somebody's work ends without a chance to save it or to object.",
    "not_used": "It sets nothing, and whoever wrote it believes that it does.",
    "out_of_reach": "A clause that is always or never true does not do what it was written for.",
    "retained_briefly": "Where Prometheus does not answer, too little is left to find anybody idle, or nothing at all.",
    "sampled_rarely": "Somebody who wakes between two samples is not seen, so who sleeps cannot be told from them.",
    "shadowed": "It never decides anything, so whatever is changed in it changes nothing.",
    "threshold_in_noise": "Idle containers measure a little above nothing, so the threshold divides noise.",
    "unknown_silence": "It silences nothing.",
    "unknown_type": "It never holds, most likely because of a slip of the pen.",
    "unlisted_type": "Such containers get limits that nobody thought about.",
    "unreasoned_silence": "Whoever reads it later cannot tell whether the reason still holds.",
    "untested_rule": "Nobody has seen what it does to a container at work, or to one without data.",
    "useless_silence": "It would hide the next finding that really is there.",
    "window_beyond_retention": "Its data is thrown away before the window has passed, so nobody is ever found idle.",
    "window_too_short": "So few samples cannot tell a pause from idleness, and one lost scrape makes it unknown.",
}

# Of `check --live`: what is on this host now.
WHY_LIVE = {
    "docker_down": "Nothing can be decided about containers that cannot be seen.",
    "exporter_frozen": "What it says is not taken, so whoever holds these GPUs stays unknown.",
    "impossible_values": "They count as no samples, and a window with too few of them is unknown.",
    "join_empty": "What cannot be joined to a container or GPU answers nothing: those who need it stay unknown.",
    "no_gpu_container": "Whether the containers' own series would be found was not tried.",
    "no_gpus": "Without a list of GPUs no metric of theirs can be joined, and nobody who holds one is found idle.",
    "no_partner": "What has no series stays unknown, and is never found idle.",
    "no_series": "A metric that nobody scrapes answers nothing: those who need it stay unknown.",
    "query_failed": "A signal that cannot be asked for is unknown for everybody.",
    "scrape_interval": "The setting is used wherever the data themselves do not show how often they are sampled.",
    "source_down": "As long as nobody answers, nobody is found idle.",
    "stale_series": "Samples that stopped coming prove nothing about now.",
    "stranger_series": "Its exporter may watch another engine or driver; or something went away a moment ago.",
}
