"""What numba cannot say by itself: sums over vector lanes in one fixed order, written as LLVM code.

A compiler may not reorder a floating-point sum, so it cannot vectorise one; these say which lane
sums what. Plain multiplications and additions, never fused: any vector width gives the same bits.
Knows blocks of coordinates and addresses; must not know models or rules.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _untyped_intrinsic

from p2pfl.averaging.layout import BLOCK, CHAINS, LANES, LINE

ir = cgutils.ir


def intrinsic(function: Callable[..., Any]) -> Callable[..., Any]:
    """numba's decorator with a type; kernels call the result without the typing context."""
    made: Callable[..., Any] = _untyped_intrinsic(function)
    return made


_F32, _F64, _I64, _I32 = ir.FloatType(), ir.DoubleType(), ir.IntType(64), ir.IntType(32)
_TILE = LANES // 2
_NARROW, _WIDE = ir.VectorType(_F32, LANES), ir.VectorType(_F64, LANES)


def load(builder: Any, base: Any, index: Any, vector: Any) -> Any:
    """A vector of numbers, wherever it begins."""
    place = builder.bitcast(builder.gep(base, [index]), vector.as_pointer())
    loaded = builder.load(place)
    loaded.align = 8 if vector.element == _F64 else 4
    return loaded


def lane_totals(builder: Any, vectors: Sequence[Any]) -> Any:
    """The sum over the lanes of each of LANES vectors, from the first lane to the last."""
    rows, apart = list(vectors), 1
    while apart < LANES:  # a transposition: pairs of rows exchange halves, quarters, …
        swapped = list(rows)
        for at in range(LANES):
            if not at & apart:
                pair = rows[at], rows[at + apart]
                for half in (0, apart):
                    mask = [
                        lane + half if not lane & apart else LANES + lane - apart + half
                        for lane in range(LANES)
                    ]
                    chosen = ir.Constant(ir.VectorType(_I32, LANES), mask)
                    swapped[at + half] = builder.shuffle_vector(*pair, chosen)
        rows, apart = swapped, 2 * apart
    total = rows[0]
    for row in rows[1:]:
        total = builder.fadd(total, row)
    return total


def store(builder: Any, vector: Any, base: Any, index: Any) -> None:
    """A vector of numbers to wherever it begins."""
    place = builder.bitcast(builder.gep(base, [index]), vector.type.as_pointer())
    builder.store(vector, place).align = 8 if vector.type.element == _F64 else 4


def squares_of(builder: Any, model: Any, origin: Any) -> Any:
    """What each lane has of Σ (model − origin)² over a block. Takes pointers."""
    sums = [ir.Constant(_WIDE, [0.0] * LANES)] * CHAINS
    for start in range(0, BLOCK, LANES):
        at, chain = ir.Constant(_I64, start), start // LANES % CHAINS
        wide = builder.fpext(load(builder, model, at, _NARROW), _WIDE)
        z = builder.fsub(wide, load(builder, origin, at, _WIDE))
        sums[chain] = builder.fadd(sums[chain], builder.fmul(z, z))
    return builder.fadd(builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3]))


def _pointer_to(kind: Any) -> Any:
    """What makes of an address a pointer that `carray` takes."""

    def as_pointer(typing_context: Any, address: Any) -> Any:
        signature = types.CPointer(kind)(types.uintp)

        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, code

    return intrinsic(as_pointer)


pointer = _pointer_to(types.float32)
pointer_to_halves = _pointer_to(types.uint16)
pointer_to_whole = _pointer_to(types.int8)


@intrinsic
def prefetch_block(typing_context: Any, address: Any) -> Any:
    """Ask for the block of float32 at an address; harmless where nothing is mapped."""
    signature = types.void(types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read_into_second_level = [ir.Constant(_I32, value) for value in (0, 2, 1)]
        base = builder.inttoptr(arguments[0], byte)
        for line in range(0, 4 * BLOCK, LINE):
            place = builder.gep(base, [ir.Constant(_I64, line)])
            builder.call(ask, [place, *read_into_second_level])
        return context.get_dummy_value()

    return signature, code


@intrinsic
def square_block(typing_context: Any, model: Any, origin: Any, target: Any) -> Any:
    """target[lane] = its part of Σ (model − origin)² over a block. Takes addresses.

    model: float32. origin, target: float64; LANES targets.
    """
    signature = types.void(types.uintp, types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        model = builder.inttoptr(arguments[0], _F32.as_pointer())
        origin, target = (builder.inttoptr(a, _F64.as_pointer()) for a in arguments[1:])
        store(builder, squares_of(builder, model, origin), target, ir.Constant(_I64, 0))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def add_lane_totals(typing_context: Any, lanes: Any, target: Any) -> Any:
    """target[r] += the sum of row r of a float64[LANES, LANES] buffer. Takes addresses."""
    signature = types.void(types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, target = (builder.inttoptr(a, _F64.as_pointer()) for a in arguments)
        rows = [load(builder, lanes, ir.Constant(_I64, LANES * r), _WIDE) for r in range(LANES)]
        begin = ir.Constant(_I64, 0)
        total = builder.fadd(load(builder, target, begin, _WIDE), lane_totals(builder, rows))
        store(builder, total, target, begin)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def subtract_block(typing_context: Any, model: Any, origin: Any, target: Any) -> Any:
    """target = model − origin over a block. model: float32; origin, target: float64."""
    signature = types.void(types.uintp, types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        model = builder.inttoptr(arguments[0], _F32.as_pointer())
        origin, target = (builder.inttoptr(a, _F64.as_pointer()) for a in arguments[1:])
        for start in range(0, BLOCK, LANES):
            at = ir.Constant(_I64, start)
            wide = builder.fpext(load(builder, model, at, _NARROW), _WIDE)
            store(builder, builder.fsub(wide, load(builder, origin, at, _WIDE)), target, at)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def add_tile_products(
    typing_context: Any, left: Any, right: Any, target: Any, target_row: Any
) -> Any:
    """target[r, c] += Σ left[r] · right[c], 2 by 4 rows of a [·, BLOCK] float64 buffer.

    Takes addresses; target_row: float64s from one row of the target to the next.
    """
    signature = types.void(types.uintp, types.uintp, types.uintp, types.int64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *addresses, row = arguments
        bases = [builder.inttoptr(address, _F64.as_pointer()) for address in addresses]
        lefts, rights = (
            [builder.gep(base, [ir.Constant(_I64, BLOCK * r)]) for r in range(count)]
            for base, count in zip(bases, (2, _TILE), strict=False)
        )
        sums = [cgutils.alloca_once(builder, _WIDE) for _ in range(LANES)]
        for place in sums:
            builder.store(ir.Constant(_WIDE, [0.0] * LANES), place)
        begin, end, step = (ir.Constant(_I64, v) for v in (0, BLOCK, LANES))
        with cgutils.for_range_slice(builder, begin, end, step, _I64) as (index, _):
            a = [load(builder, base, index, _WIDE) for base in lefts]
            b = [load(builder, base, index, _WIDE) for base in rights]
            for at, place in enumerate(sums):
                product = builder.fmul(a[at // _TILE], b[at % _TILE])
                builder.store(builder.fadd(builder.load(place), product), place)
        totals = lane_totals(builder, [builder.load(place) for place in sums])
        for at in (0, 1):
            mask = ir.Constant(ir.VectorType(_I32, _TILE), [_TILE * at + c for c in range(_TILE)])
            found = builder.shuffle_vector(totals, totals, mask)
            place = builder.mul(row, ir.Constant(_I64, at))
            known = load(builder, bases[2], place, found.type)
            store(builder, builder.fadd(known, found), bases[2], place)
        return context.get_dummy_value()

    return signature, code
