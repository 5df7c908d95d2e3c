# SPDX-License-Identifier: Apache-2.0
"""Every error that dpd raises on purpose. A message tells what, which, what was expected and the next step."""


class DpdError(Exception):
    """Anything an operator or a peer can cause; the command line prints it in one line and no traceback."""


class SettingsError(DpdError):
    """A settings file that cannot be used: names file, key, value and what is allowed."""


class ServiceError(DpdError):
    """A listener that cannot start or go on: port in use, missing capability, no such interface."""


class ContentError(DpdError):
    """The content library refuses: names the package or file and why."""


class ContentNotFound(ContentError):
    """No such package, version or object in the library."""


class ContentCorrupt(ContentError):
    """Bytes are not what their format, length or hash says."""


class MalformedImage(ContentCorrupt):
    """A boot loader whose bytes are no sound PE image. `reason` is a short closed label."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class LibraryFull(ContentError):
    """No room for what is to be added."""


class LibraryInUse(ContentError):
    """Another process holds the library; one library has one daemon."""


class SourceUnavailable(ContentError):
    """A source that cannot give the content now; another one, or a later try, may."""


class JobError(DpdError):
    """A job of distribution is refused: names the job or package and why."""


class JobNotFound(JobError):
    """No such job."""


class JobCancelled(JobError):
    """The operator took the job back."""


class DeploymentError(DpdError):
    """A deployment under way refuses: names the execution or capture and why."""


class ExecutionNotFound(DeploymentError):
    """No such execution."""


class CaptureNotFound(ExecutionNotFound):
    """No such capture, or none that is open."""


class DeploymentDiskFull(DeploymentError):
    """No room for what a target reports or sends."""


class TargetRefused(DpdError):
    """A machine that booted is refused: `code` is for its program, the message says why and the next step."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BuildError(DpdError):
    """A deployment environment cannot be built: names the package, file or program and why."""


class SessionError(DpdError):
    """A multicast session cannot be joined, started or finished."""


class SessionNotFound(SessionError):
    """No such multicast session."""


class Unavailable(DpdError):
    """Right, but not now: the daemon drains, or as much runs already as may."""


class BusError(DpdError):
    """What came over the bus is no such message, or the bus refuses."""


class BusUnavailable(BusError):
    """The bus, or who is asked over it, does not answer now."""


class ProtocolError(DpdError):
    """Base of what goes wrong on the wire."""


class MalformedMessage(ProtocolError):
    """The peer's fault: bytes that are no message. `reason` is a short closed label for counters."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class MisuseError(ProtocolError):
    """Our fault: a machine was driven in a way its contract forbids."""
