"""Blocks of columns, written as LLVM code: reading, ordering, averaging and counting them.

Like `lanes`, and for its reason: how wide the vectors are, and that a comparison becomes a minimum
and a maximum without a branch, is said here and not left to a vectoriser's judgement. A machine
with narrower vectors splits them; sums are in the same order on any. Values are finite, or the
caller refuses the models afterwards. All functions take addresses.
"""

from typing import Any

from numba import types
from numba.core import cgutils

from p2pfl.averaging.lanes import intrinsic, ir, load, squares_of, store
from p2pfl.averaging.layout import BLOCK, LANES
from p2pfl.averaging.sorting import LIST, sorting_network

_COLUMNS = 16
"""Float32 columns of one vector."""

_F32, _F64, _I64 = ir.FloatType(), ir.DoubleType(), ir.IntType(64)
_WHOLE, _HALF = ir.VectorType(_F32, _COLUMNS), ir.VectorType(_F32, LANES)
_WIDE = ir.VectorType(_F64, LANES)
_STARTS = range(0, BLOCK, _COLUMNS)
# Columns whose sums are held in registers at a time.
_TOGETHER = 4 * LANES


def _at(start: int) -> Any:
    return ir.Constant(_I64, start)


def _pointers(builder: Any, kind: Any, addresses: Any) -> list[Any]:
    return [builder.inttoptr(address, kind.as_pointer()) for address in addresses]


@intrinsic
def read_block(typing_context: Any, model: Any, target: Any, origin: Any, lanes: Any) -> Any:
    """Copy a block of float32, −0 as 0; lanes: as of `square_block`, from model and origin.

    Minimum and maximum may swap the two zeros. origin: float64[BLOCK].
    """
    signature = types.void(types.uintp, types.uintp, types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        model, target = _pointers(builder, _F32, arguments[:2])
        origin, lanes = _pointers(builder, _F64, arguments[2:])
        zeros = ir.Constant(_WHOLE, [0.0] * _COLUMNS)
        for start in _STARTS:
            values = builder.fadd(load(builder, model, _at(start), _WHOLE), zeros)
            store(builder, values, target, _at(start))
        store(builder, squares_of(builder, model, origin), lanes, _at(0))
        return context.get_dummy_value()

    return signature, code


def _ordered(builder: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """The smaller and the larger one of each pair: one instruction each."""
    is_less = builder.fcmp_ordered("<", a, b)
    return builder.select(is_less, a, b), builder.select(is_less, b, a)


@intrinsic
def order_list(typing_context: Any, rows: Any, target: Any, stride: Any, count: Any) -> Any:
    """Copy `count` ≤ LIST rows of a float32[·, BLOCK] buffer, column by column in order.

    stride: from one of these rows to the next, in rows, in both buffers.
    """
    signature = types.void(types.uintp, types.uintp, types.int64, types.int64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bases = _pointers(builder, _F32, arguments[:2])
        step = builder.mul(arguments[2], _at(BLOCK))
        end = builder.append_basic_block("ordered")
        switch = builder.switch(arguments[3], end)
        for count in range(1, LIST + 1):
            block = builder.append_basic_block(f"list_of_{count}")
            switch.add_case(_at(count), block)
            builder.position_at_end(block)
            with cgutils.for_range_slice(builder, _at(0), _at(BLOCK), _at(_COLUMNS), _I64) as (
                start,
                _,
            ):
                places = [builder.add(start, builder.mul(step, _at(row))) for row in range(count)]
                values = [load(builder, bases[0], place, _WHOLE) for place in places]
                for low, high in sorting_network(count):
                    values[low], values[high] = _ordered(builder, values[low], values[high])
                for place, vector in zip(places, values, strict=True):
                    store(builder, vector, bases[1], place)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, code


@intrinsic
def order_rows(typing_context: Any, rows: Any, network: Any, comparators: Any) -> Any:
    """Apply a sorting network to the rows of a float32[·, BLOCK] buffer, column by column.

    network: int64[comparators, 2], the row for the smaller value first.
    """
    signature = types.void(types.uintp, types.uintp, types.int64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (rows,) = _pointers(builder, _F32, arguments[:1])
        (network,) = _pointers(builder, _I64, arguments[1:2])
        with cgutils.for_range(builder, arguments[2]) as loop:
            pair = builder.gep(network, [builder.shl(loop.index, _at(1))])
            places = [builder.load(builder.gep(pair, [_at(at)])) for at in (0, 1)]
            low, high = (builder.gep(rows, [builder.mul(at, _at(BLOCK))]) for at in places)
            values = [
                [load(builder, row, _at(start), _WHOLE) for start in _STARTS] for row in (low, high)
            ]
            for start, a, b in zip(_STARTS, *values, strict=True):
                for vector, row in zip(_ordered(builder, a, b), (low, high), strict=True):
                    store(builder, vector, row, _at(start))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def mean_of_rows(typing_context: Any, rows: Any, count: Any, target: Any) -> Any:
    """target = mean of `count` rows of a float32[·, BLOCK] buffer, summed in order in float64."""
    signature = types.void(types.uintp, types.int64, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, target = _pointers(builder, _F32, (arguments[0], arguments[2]))
        number = builder.sitofp(arguments[1], _F64)
        divisor = ir.Constant(_WIDE, ir.Undefined)
        for lane in range(LANES):
            divisor = builder.insert_element(divisor, number, ir.Constant(ir.IntType(32), lane))
        for begin in range(0, BLOCK, _TOGETHER):
            starts = range(begin, begin + _TOGETHER, LANES)
            sums = [cgutils.alloca_once(builder, _WIDE) for _ in starts]
            for start, place in zip(starts, sums, strict=True):
                wide = builder.fpext(load(builder, first, _at(start), _HALF), _WIDE)
                builder.store(wide, place)
            with cgutils.for_range_slice(builder, _at(1), arguments[1], _at(1), _I64) as (row, _):
                base = builder.gep(first, [builder.mul(row, _at(BLOCK))])
                for start, place in zip(starts, sums, strict=True):
                    wide = builder.fpext(load(builder, base, _at(start), _HALF), _WIDE)
                    builder.store(builder.fadd(builder.load(place), wide), place)
            for start, place in zip(starts, sums, strict=True):
                mean = builder.fdiv(builder.load(place), divisor)
                store(builder, builder.fptrunc(mean, _HALF), target, _at(start))
        return context.get_dummy_value()

    return signature, code


@intrinsic
def count_between(typing_context: Any, row: Any, low: Any, high: Any) -> Any:
    """How many of a block's float32 lie between two other blocks', bounds included."""
    signature = types.int64(types.uintp, types.uintp, types.uintp)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        row, low, high = _pointers(builder, _F32, arguments)
        bits = ir.IntType(_COLUMNS)
        kind = ir.FunctionType(bits, [bits])
        ones = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.i{_COLUMNS}")
        total = _at(0)
        for start in _STARTS:
            x, least, most = (load(builder, base, _at(start), _WHOLE) for base in (row, low, high))
            inside = builder.and_(
                builder.fcmp_ordered(">=", x, least), builder.fcmp_ordered("<=", x, most)
            )
            found = builder.call(ones, [builder.bitcast(inside, bits)])
            total = builder.add(total, builder.zext(found, _I64))
        return total

    return signature, code
