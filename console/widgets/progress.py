"""What a chart without candles says: how far its session is on its way, and what to do. Pure."""

from __future__ import annotations

from console import formatting as f
from console.widgets.spans import Line, line
from engine.domain.ids import Millis
from engine.snapshot import Phase, SessionView

STEPS = (
    Phase.STARTING, Phase.RECOVERING, Phase.RECONCILING, Phase.SUBSCRIBING, Phase.LOADING_HISTORY, Phase.WARMING,
    Phase.TRADING,
)  # fmt: skip
EIGHTHS = " ▏▎▍▌▋▊▉█"


def on_its_way(view: SessionView) -> bool:
    """Whether the session starts and does not trade yet."""
    return view.phase in STEPS and view.phase is not Phase.TRADING


def steps_line(view: SessionView) -> str:
    """The steps of a start: done, under way, ahead."""
    at = STEPS.index(view.phase)
    return "  ".join(f"{'✓' if i < at else '▸' if i == at else '·'} {step}" for i, step in enumerate(STEPS))


def step_words(view: SessionView) -> str:
    """The same in few words, for where there is no room: `step 3 of 7: reconciling`."""
    return f"step {STEPS.index(view.phase) + 1} of {len(STEPS)}: {view.phase}"


def warm_up_bar(view: SessionView, cells: int) -> Line:
    """Warm-up as a bar and in figures."""
    share = min(1.0, view.warmed / view.warmup) if view.warmup else 1.0
    whole, part = divmod(round(share * cells * 8), 8)
    full = "█" * whole + (EIGHTHS[part] if part else "")
    return line((full, "accent"), ("─" * (cells - len(full)), "faint"), f" {view.warmed} of {view.warmup} candles")


def waiting_words(view: SessionView, now: Millis, width: int) -> tuple[str, ...]:
    """Why there is no candle, how far the start is, what to do about it; a line each."""
    symbol, detail = view.instrument.symbol, f.plain(view.phase_detail)
    match view.phase:
        case Phase.VIEW_ONLY:
            return f"{symbol}: another engine trades it", "Its rows are shown here; candles are not among them."
        case Phase.DEAD:
            return f"{symbol}: the session is dead", detail, "^p, then Stand down, says that it is meant to be."
        case Phase.STOOD_DOWN | Phase.STOPPED:
            return f"{symbol}: {view.phase}", detail or "Start the desk again to trade it."
        case Phase.TRADING:
            left = view.timeframe.start_of(now) + view.timeframe.ms - now
            return f"{symbol}: no candle yet", f"It waits for a tick; this window ends in {f.age(left)}."
        case _:
            steps = steps_line(view)
            words = [f"{symbol}: no candle yet", steps if len(steps) + 4 <= width else step_words(view)]
            if view.phase is Phase.WARMING:
                words.append("".join(span.text for span in warm_up_bar(view, 20)))
            elif detail:
                words.append(detail)
            return tuple(words)
