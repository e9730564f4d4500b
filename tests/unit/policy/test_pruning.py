from soniqd.policy.pruning import PRUNE_BATCH, next_prune_s


def test_a_full_batch_is_followed_by_a_rest_as_long_as_it_took():
    assert next_prune_s(PRUNE_BATCH, 0, took_s=0.02) == 0.02
    assert next_prune_s(0, PRUNE_BATCH, took_s=0.5) == 0.5


def test_what_is_not_full_was_the_last():
    assert next_prune_s(PRUNE_BATCH - 1, 0, took_s=0.02) is None
