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
_NARROW, _WIDE = ir.VectorType(_F32, LANES), ir.VectorType(_F64, LANES)


def load(builder: Any, base: Any, index: Any, vector: Any) -> Any:
    """A vector of numbers, wherever it begins."""
    place = builder.bitcast(builder.gep(base, [index]), vector.as_pointer())
    loaded = builder.load(place)
    loaded.align = 8 if vector.element == _F64 else 4
    return loaded


def _lane_sum(builder: Any, vector: Any) -> Any:
    total = builder.extract_element(vector, ir.Constant(_I32, 0))
    for lane in range(1, LANES):
        total = builder.fadd(total, builder.extract_element(vector, ir.Constant(_I32, lane)))
    return total


def chained_sum(builder: Any, sums: Sequence[Any]) -> Any:
    """The sum of all lanes of the CHAINS partial sums of a distance."""
    low, high = builder.fadd(sums[0], sums[1]), builder.fadd(sums[2], sums[3])
    return _lane_sum(builder, builder.fadd(low, high))


def _zeros(builder: Any, count: int) -> list[Any]:
    zero = ir.Constant(_WIDE, [0.0] * LANES)
    sums = [cgutils.alloca_once(builder, _WIDE) for _ in range(count)]
    for place in sums:
        builder.store(zero, place)
    return sums


@intrinsic
def pointer(typing_context: Any, address: Any) -> Any:
    """Address of a float32 as a pointer that `carray` takes."""
    signature = types.CPointer(types.float32)(types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return signature, code


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
def block_distance(typing_context: Any, first: Any, second: Any) -> Any:
    """Σ (first − second)² over a block of float32, in float64. Takes addresses."""
    signature = types.float64(types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left, right = (builder.inttoptr(a, _F32.as_pointer()) for a in arguments)
        sums = _zeros(builder, CHAINS)
        begin, end, step = (ir.Constant(_I64, v) for v in (0, BLOCK, LANES * CHAINS))
        with cgutils.for_range_slice(builder, begin, end, step, _I64) as (index, _):
            for chain, place in enumerate(sums):
                at = builder.add(index, ir.Constant(_I64, chain * LANES))
                wide = [
                    builder.fpext(load(builder, base, at, _NARROW), _WIDE) for base in (left, right)
                ]
                z = builder.fsub(*wide)
                builder.store(builder.fadd(builder.load(place), builder.fmul(z, z)), place)
        return chained_sum(builder, [builder.load(place) for place in sums])

    return signature, code


@intrinsic
def add_block_products(
    typing_context: Any, left: Any, right: Any, target: Any, target_row: Any
) -> Any:
    """target[r, c] += Σ left[r] · right[c] for two rows each of a [·, BLOCK] float64 buffer.

    Takes addresses; target_row: float64s from one row of the target to the next.
    """
    signature = types.void(types.uintp, types.uintp, types.uintp, types.int64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *addresses, row = arguments
        bases = [builder.inttoptr(address, _F64.as_pointer()) for address in addresses]
        second = ir.Constant(_I64, BLOCK)
        lefts, rights = ([base, builder.gep(base, [second])] for base in bases[:2])
        sums = _zeros(builder, 4)
        begin, end, step = (ir.Constant(_I64, v) for v in (0, BLOCK, LANES))
        with cgutils.for_range_slice(builder, begin, end, step, _I64) as (index, _):
            a = [load(builder, base, index, _WIDE) for base in lefts]
            b = [load(builder, base, index, _WIDE) for base in rights]
            for at, place in enumerate(sums):
                product = builder.fmul(a[at // 2], b[at % 2])
                builder.store(builder.fadd(builder.load(place), product), place)
        for at, place in enumerate(sums):
            skipped = builder.mul(row, ir.Constant(_I64, at // 2))
            cell = builder.gep(bases[2], [builder.add(skipped, ir.Constant(_I64, at % 2))])
            total = _lane_sum(builder, builder.load(place))
            builder.store(builder.fadd(builder.load(cell), total), cell)
        return context.get_dummy_value()

    return signature, code
