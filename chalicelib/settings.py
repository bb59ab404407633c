"""What a deployment is told about itself: the stage, and the names that follow from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from chalicelib.model import Account

VERSION = "0.1.0"
LOCAL_STAGE = "local"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one stage. Everything else follows from the stage's name, so that nothing can disagree."""

    stage: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read ``PANELGATE_STAGE``.

        Raises:
            ValueError: it is not set; a deployment without a stage must not touch another one's data.
        """
        stage = environment.get("PANELGATE_STAGE", "")
        if not stage:
            raise ValueError("PANELGATE_STAGE is not set")
        return cls(stage)

    @property
    def local(self) -> bool:
        """Whether this is the stage that runs on one machine: panels on loopback only, plain http allowed."""
        return self.stage == LOCAL_STAGE

    @property
    def table(self) -> str:
        """Name of the DynamoDB table."""
        return f"panelgate-{self.stage}"

    @property
    def audit_log(self) -> str:
        """Name of the log group that anchors the journal of the operator's acts."""
        return f"/panelgate/{self.stage}/audit"

    def provider_secret(self, account: Account) -> str:
        """Return the name of the secret that holds the key of an account at a provider."""
        owner = "" if account.tenant is None else f"tenants/{account.tenant}/"
        return f"panelgate/{self.stage}/{owner}providers/{account.provider}"

    @property
    def quiet(self) -> int:
        """Seconds after which an unknown order may be declared not placed, unless the provider says otherwise."""
        return 60 if self.local else 600
