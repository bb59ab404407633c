"""What happens to a request at a panel, from its arrival until an answer is ready to be sent."""

from collections.abc import Callable
from dataclasses import dataclass

from sandbox import delivery
from sandbox.delivery import Parcel, Wire, pack
from sandbox.faults import ActiveFault, Scene, parcel_for, take
from sandbox.journal import Entry
from sandbox.messages import Call, PanelError, Problem, Reply, Request
from sandbox.panel import Panel

NOT_FOUND = Parcel(404, b'{"error":"Not found"}')


@dataclass(frozen=True)
class Answer:
    """A parcel and the way it will be sent."""

    parcel: Parcel
    deliver: Callable[[Wire, Parcel, float], bool] = delivery.send_whole
    seconds: float = 0.0

    def over(self, wire: Wire) -> bool:
        """Send it; whether the connection lives on."""
        return self.deliver(wire, self.parcel, self.seconds)


def receive(panel: Panel, request: Request, pause: Callable[[float], object]) -> Answer:
    """Log a request, let it meet the panel's pace and faults, and have it answered.

    A call that came too fast is refused before any fault, so that a fault ordered once meets a call that counts.
    """
    call = panel.profile.dialect.read(request)
    with panel.lock:
        panel.touched = True
        entry = panel.journal.open_entry(request, call.action)
        if request.path != panel.profile.path:
            return _close(panel, entry, Answer(NOT_FOUND))
        if not panel.keeps_pace(call.key, request.arrived):
            return _close(panel, entry, Answer(pack(_refuse(panel, Problem.TOO_FAST))))
        fault = take(panel.faults, call.action)
        if fault is None:
            reply = _answer(panel, call)
            return _close(panel, entry, Answer(pack(reply)), reply)
        entry.fault = fault.fault
    if fault.kind.delays_processing:
        pause(fault.pause)
    with panel.lock:
        return _answer_under(panel, call, fault, entry)


def _answer_under(panel: Panel, call: Call, fault: ActiveFault, entry: Entry) -> Answer:
    reply = _answer(panel, call) if fault.processes else None
    parcel = parcel_for(Scene(panel, call, fault), reply)
    answer = Answer(parcel, fault.kind.deliver, fault.pause)
    return _close(panel, entry, answer, reply, answered=fault.kind.answers)


def _answer(panel: Panel, call: Call) -> Reply:
    if call.flaw:
        return _refuse(panel, call.flaw)
    if not panel.knows(call.key):
        return _refuse(panel, Problem.BAD_KEY)
    if not call.action:
        return _refuse(panel, Problem.BAD_REQUEST)
    action = panel.profile.dialect.actions.get(call.action)
    if action is None:
        return _refuse(panel, Problem.BAD_ACTION)
    try:
        with panel.serving(call.key):
            return action(panel, call)
    except PanelError as error:
        return panel.profile.dialect.refuse(panel, error)


def _refuse(panel: Panel, problem: Problem) -> Reply:
    return panel.profile.dialect.refuse(panel, PanelError(problem))


def _close(panel: Panel, entry: Entry, answer: Answer, reply: Reply | None = None, *, answered: bool = True) -> Answer:
    panel.touched = True
    status = answer.parcel.status if answered else None
    panel.journal.close_entry(entry, order=reply.order if reply else None, status=status)
    return answer
