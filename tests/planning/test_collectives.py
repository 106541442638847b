"""Bytes sent between chips, read from the text of a program."""

import pytest

from imagen_jax.planning.collectives import KINDS, Collective, sent_by_kind

HLO = """\
HloModule jit_step

%add.1 (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%all-reduce-scatter.7 (input: bf16[64,8]) -> bf16[16,8] {
  %r = bf16[64,8]{1,0:T(8,128)(2,1)} all-reduce(%input), \
replica_groups=[2,4]<=[8], to_apply=%add.1
  ROOT %s = bf16[16,8]{1,0} dynamic-slice(%r, %i), dynamic_slice_sizes={16,8}
}

%body.2 (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %g = f32[32,4]{1,0:T(8,128)S(1)} all-gather(%p), channel_id=1, \
replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}
  %f = bf16[16,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.7
}

%condition.2 (state: (s32[], f32[8])) -> pred[] {
  %n = s32[]{:T(128)} constant(3)
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main.9_spmd (p: f32[8]) -> f32[8] {
  %all = (f32[]{:T(128)}, f32[10]{0:T(128)}, /*index=2*/f32[5]{0}) all-reduce(%a, %b), \
replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add.1
  %w = (s32[], f32[8]) while(%t), condition=%condition.2, body=%body.2, \
COUNT
  %start = (bf16[8,8]{1,0}, bf16[8,8]{1,0}, u32[]) collective-permute-start(%y), \
source_target_pairs={{0,1}}
  %done = bf16[8,8]{1,0} collective-permute-done(%start)
}
"""


@pytest.mark.parametrize(
    "count",
    ['backend_config={"known_trip_count":{"n":"3"},"other":"x"}', "metadata={}"],
)
def test_loops_tuples_groups_and_fusions_count(count):
    assert sent_by_kind(HLO.replace("COUNT", count)) == {
        "all-gather": 3 * 32 * 4 * 4 * 3 // 4,
        "all-reduce": 2 * (1 + 10 + 5) * 4 * 3 // 4,
        "all-to-all": 0,
        "collective-permute": 8 * 8 * 2,
        "reduce-scatter": 3 * 64 * 8 * 2 * 3 // 4,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_alone_a_chip_sends_nothing_but_to_itself(kind):
    alone = kind == "collective-permute"
    assert Collective(kind, 100, 1).sent_bytes == 100 * alone


def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather():
    whole, part = 800, 100
    both = Collective("reduce-scatter", part, 8), Collective("all-gather", whole, 8)
    once = Collective("all-reduce", whole, 8).sent_bytes
    assert sum(c.sent_bytes for c in both) == once
