"""`gpuledger check` in continuous integration: a GitHub action and a workflow for it, a GitLab job, a pre-commit hook.

GitHub: "Metadata syntax for GitHub Actions"; GitLab: "CI/CD YAML syntax"; pre-commit: "Creating new hooks". What
`check` decides is the policy as it is: nothing is left out, but only what stands in files is seen.
"""

from typing import Final

from gpuledger.core.policy.model import Policy
from gpuledger.core.policy.render import Note, Rendered, Setting

_INSTALL: Final = "pip install gpuledger"


def render(policy: Policy, setting: Setting) -> Rendered:
    """Return the files; the repository's own path of manifests is theirs to adapt."""
    check = f"gpuledger check manifests/ --policy {setting.source_name}"
    action = {
        "name": "gpuledger check",
        "description": "Policy decision and price of workloads in files, before anything is scheduled",
        "inputs": {
            "paths": {"description": "Files and folders", "required": False, "default": "manifests/"},
            "policy": {"description": "Policy file", "required": False, "default": setting.source_name},
        },
        "runs": {
            "using": "composite",
            "steps": [
                {"run": _INSTALL, "shell": "bash"},
                {
                    "run": 'gpuledger check $PATHS --policy "$POLICY" --format markdown | tee -a "$GITHUB_STEP_SUMMARY"; exit "${PIPESTATUS[0]}"',
                    "shell": "bash",
                    "env": {"PATHS": "${{ inputs.paths }}", "POLICY": "${{ inputs.policy }}"},
                },
            ],
        },
    }
    workflow = {
        "name": "gpuledger",
        "on": {"pull_request": None},
        "permissions": {"contents": "read"},
        "jobs": {
            "check": {
                "runs-on": "ubuntu-latest",
                "steps": [{"uses": "actions/checkout@v4"}, {"uses": "./.github/actions/gpuledger-check"}],
            }
        },
    }
    gitlab = {
        "gpuledger-check": {
            "image": "python:3.12-slim",
            "rules": [{"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'}],
            "script": [_INSTALL, check],
        }
    }
    hook = {"repos": [{"repo": "local", "hooks": [_hook(setting.source_name)]}]}
    notes = [
        Note(
            "what is applied past the repository",
            "not enforced",
            "only files are checked; render vap or webhook too",
        )
    ]
    notes += [
        Note(budget.name, "partly", "no reservation is made by a check of files: what is left isn't known")
        for budget in policy.budget
    ]
    return Rendered(
        {
            ".github/actions/gpuledger-check/action.yml": (action,),
            ".github/workflows/gpuledger.yml": (workflow,),
            ".gitlab-ci.gpuledger.yml": (gitlab,),
            ".pre-commit-config.yaml": (hook,),
        },
        tuple(notes),
    )


def _hook(policy: str) -> dict[str, object]:
    return {
        "id": "gpuledger-check",
        "name": "gpuledger check",
        "entry": f"gpuledger check --policy {policy}",
        "language": "python",
        "additional_dependencies": ["gpuledger"],
        "types_or": ["yaml", "json", "shell"],
    }
