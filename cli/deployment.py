"""`panelgate deploy`: a stage in an AWS account, put in place or brought up to date."""

import click

from chalicelib.settings import LOCAL_STAGE
from cli.acts import Trace
from cli.console import Aws, Command, Console, pass_console
from cli.stacks import deploy
from cli.system import LocalSystem


@click.command("deploy", cls=Command, trace=Trace.OWN)
@click.option("--endpoint-url", metavar="URL", help="Another address of AWS, such as an emulator.")
@click.option("--domain", metavar="D", help="A host name of your own for the API.")
@click.option("--certificate", metavar="ARN", help="The certificate for it, in the same region.")
@pass_console
def deploy_command(console: Console, endpoint_url: str | None, domain: str | None, certificate: str | None) -> None:
    """Put the gateway into an AWS account, or bring it up to date."""
    if (domain is None) != (certificate is None):
        raise click.UsageError("--domain and --certificate belong together.")
    if endpoint_url:
        console.aws = Aws.real(endpoint_url)
    aws = console.aws
    deployed = deploy(
        aws,
        console.stage,
        console.progress,
        record=lambda _aws: console.begin_if_possible(),
        domain=domain,
        certificate=certificate,
    )
    console.note(package=deployed.package)
    if console.stage == LOCAL_STAGE and aws.endpoint:
        LocalSystem().note_api(aws.endpoint, deployed.api_url)
    document = {"stage": console.stage, "api_url": deployed.api_url}
    if deployed.domain_url:
        document |= {"domain_url": deployed.domain_url, "domain_target": deployed.domain_target or ""}
    console.emit(document, "\n".join(f"{name:14} {value}" for name, value in document.items()))
