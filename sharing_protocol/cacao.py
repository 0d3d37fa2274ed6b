"""The subset of CACAO 2.0 that a playbook's `cacao` member is written in, member by member.

"CACAO Security Playbooks Version 2.0" (OASIS); numbers in brackets are its sections. Taken are the steps `start`
(4.3), `end` (4.4), `action` (4.5), `parallel` (4.7) and `if-condition` (4.8), manual commands (5), and groups and
organisations as agents and targets (7). Commands that a machine would run have no place here, and any member that is
not written out is refused, since what nobody here understands nobody has checked.

Due times, approvals and whom a question is put to are an extension that the document itself declares. A condition is
always the answer of a person, `yes` or `no`, in the step's own variable `__answer__`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from sharing_protocol.statements.header import Line, Paragraphs, StrictModel
from sharing_protocol.statements.playbooks import MAX_MINUTES

MAX_STEPS = 128
MAX_DEPTH = 16
MAX_COMMANDS = 8
MAX_BRANCHES = 8
MAX_AGENTS = 32
MAX_APPROVALS = 16

SPEC_VERSION = "cacao-2.0"
CONDITION = "__answer__:value = 'yes'"
EXTENSION = "extension-definition--4d02bf0c-d8ec-4cc7-bfcf-0420e5776d2f"
EXTENSION_DEFINITION: Mapping[str, str] = {
    "type": "extension-definition",
    "name": "Due times, approvals and questions",
    "created_by": "identity--1a9ff091-36a8-4810-8016-72f3fcaac000",
    "schema": (
        "due_within_minutes (integer): minutes after the step was reached within which it is done. "
        "approvals (integer): how many people other than the one who does the step approve it first. "
        "asked_of (identifier): the agent that answers the question of an if-condition."
    ),
    "version": "1.0.0",
}
"""What a document that uses the extension says of it, word for word."""

_UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = r"^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"
STEP_TYPES = ("start", "end", "action", "parallel", "if-condition")


def _real_time(value: str) -> str:
    datetime.fromisoformat(value)
    return value


StepId = Annotated[str, Field(pattern=rf"^(?:{'|'.join(STEP_TYPES)})--{_UUID4}$")]
AgentId = Annotated[str, Field(pattern=rf"^(?:group|organization)--{_UUID4}$")]
ExtensionId = Annotated[str, Field(pattern=rf"^{EXTENSION}$")]
Time = Annotated[str, Field(pattern=_TIME), AfterValidator(_real_time)]
Type = Literal["detection", "investigation", "mitigation", "notification", "prevention", "remediation"]
Activity: TypeAlias = Literal[
    "compose-content",
    "deliver-content",
    "identify-audience",
    "identify-channel",
    "scan-system",
    "match-indicator",
    "analyze-collected-data",
    "identify-indicators",
    "configure-systems",
    "restrict-access",
    "disconnect-system",
    "eliminate-risk",
    "revert-system",
    "restore-data",
    "restore-capabilities",
]
"""Section 3.1.2 without what belongs to attacks and to engaging an attacker."""


class Extension(StrictModel):
    """What the extension says of an action."""

    due_within_minutes: Annotated[int, Field(ge=1, le=MAX_MINUTES)] = 0
    approvals: Annotated[int, Field(ge=1, le=MAX_APPROVALS)] = 0


class QuestionExtension(Extension):
    """What it says of an if-condition."""

    asked_of: AgentId = ""


class CommandData(StrictModel):
    """A command that a person carries out (5)."""

    type: Literal["manual"]
    command: Paragraphs
    playbook_activity: Activity | Literal[""] = ""


class StartStep(StrictModel):
    """Where the workflow begins (4.3)."""

    type: Literal["start"]
    on_completion: StepId


class EndStep(StrictModel):
    """Where the workflow, or one branch, is over (4.4)."""

    type: Literal["end"]


class ActionStep(StrictModel):
    """Commands for one agent (4.5)."""

    type: Literal["action"]
    name: Line
    description: Paragraphs = ""
    commands: Annotated[list[CommandData], Field(min_length=1, max_length=MAX_COMMANDS)]
    agent: AgentId
    targets: Annotated[list[AgentId], Field(min_length=1, max_length=MAX_AGENTS)] = Field(default_factory=list)
    on_completion: StepId
    step_extensions: Annotated[dict[ExtensionId, Extension], Field(min_length=1)] = Field(default_factory=dict)


class ParallelStep(StrictModel):
    """Branches side by side (4.7)."""

    type: Literal["parallel"]
    name: Line
    description: Paragraphs = ""
    next_steps: Annotated[list[StepId], Field(min_length=2, max_length=MAX_BRANCHES)]
    on_completion: StepId


class Answer(StrictModel):
    """The variable that a person sets (10.18)."""

    type: Literal["string"]
    description: Line = ""


class Variables(StrictModel):
    """The variables of an if-condition."""

    answer: Annotated[Answer, Field(alias="__answer__")]


class IfConditionStep(StrictModel):
    """Two branches, one for each answer (4.8); CACAO could leave `on_false` out."""

    type: Literal["if-condition"]
    name: Line
    description: Paragraphs = ""
    condition: Literal["__answer__:value = 'yes'"]
    step_variables: Variables
    on_true: StepId
    on_false: StepId
    on_completion: StepId
    step_extensions: Annotated[dict[ExtensionId, QuestionExtension], Field(min_length=1)] = Field(default_factory=dict)


class Agent(StrictModel):
    """Who acts, or is acted for (7): a group or an organisation, never a person."""

    type: Literal["group", "organization"]
    name: Line
    description: Paragraphs = ""


class ExtensionDefinition(StrictModel):
    """An extension that the document uses; it has to be ours."""

    type: Literal["extension-definition"]
    name: str
    created_by: str
    schema_: Annotated[str, Field(alias="schema")]
    version: str


WorkflowStep: TypeAlias = StartStep | EndStep | ActionStep | ParallelStep | IfConditionStep


class Document(StrictModel):
    """The playbook (3.1)."""

    type: Literal["playbook"]
    spec_version: Literal["cacao-2.0"]
    id: Annotated[str, Field(pattern=rf"^playbook--{_UUID}$")]
    name: Line
    description: Paragraphs = ""
    playbook_types: Annotated[list[Type], Field(max_length=8)] = Field(default_factory=list)
    playbook_activities: Annotated[list[Activity], Field(min_length=1, max_length=16)] = Field(default_factory=list)
    created_by: Annotated[str, Field(pattern=rf"^identity--{_UUID}$")]
    created: Time
    modified: Time
    labels: Annotated[list[Line], Field(min_length=1, max_length=16)] = Field(default_factory=list)
    workflow_start: StepId
    workflow: dict[StepId, Annotated[WorkflowStep, Field(discriminator="type")]]
    agent_definitions: Annotated[dict[AgentId, Agent], Field(min_length=1, max_length=MAX_AGENTS)]
    target_definitions: Annotated[dict[AgentId, Agent], Field(min_length=1, max_length=MAX_AGENTS)] = Field(
        default_factory=dict
    )
    extension_definitions: dict[ExtensionId, ExtensionDefinition] = Field(default_factory=dict)
