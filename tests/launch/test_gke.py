"""`./launch/gke/gke.sh`: the manifest it fills, kubectl's lines, kubectl failing."""

import shlex

import pytest
import yaml

JOB = ["--", "train", "--config=configs/base.py", "--workdir=gs://b/d", "--x=\"a&\\b'"]
SUBMIT = ["submit", "--name=base", "--image=r.dev/p/i:1", "--tpu=v5e:16x16"]
EXCLUSIVE = "alpha.jobset.sigs.k8s.io/exclusive-topology"
pytestmark = pytest.mark.slow
POD_LOGS = ["--selector=jobset.sigs.k8s.io/jobset-name=base", "--tail=200"]


def submitted(tools, *flags):
    """Returns the manifest that was applied."""
    done = tools.run("gke/gke.sh", *SUBMIT, *flags, *JOB)
    assert done.returncode == 0, done.stderr
    file = tools.root / "runs" / "gke" / "base.yaml"
    assert tools.calls[-1][-2:] == ["apply", f"--filename={file}"]
    assert "@" not in file.read_text()
    return yaml.safe_load(file.read_text())


def pod_of(manifest):
    (job,) = manifest["spec"]["replicatedJobs"]
    return job, job["template"]["spec"], job["template"]["spec"]["template"]["spec"]


def test_manifest(tools):
    manifest = submitted(tools)
    job, slice_, pod = pod_of(manifest)
    assert manifest["kind"] == "JobSet"
    assert manifest["metadata"] == {
        "name": "base",
        "annotations": {EXCLUSIVE: "cloud.google.com/gke-nodepool"},
    }
    assert manifest["spec"]["failurePolicy"] == {"maxRestarts": 100}
    assert job["replicas"] == 1
    assert slice_["parallelism"] == slice_["completions"] == 64
    assert slice_["backoffLimit"] == 0
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "16x16",
    }
    assert not {"tolerations", "serviceAccountName"} & set(pod)
    (container,) = pod["containers"]
    assert container["image"] == "r.dev/p/i:1"
    assert container["command"] == ["python", "launch/stamp.py", "-m"]
    assert container["args"] == ["imagen_jax.train", *JOB[2:], "--coordinator=auto"]
    chips = {"google.com/tpu": 4}
    assert container["resources"] == {"requests": chips, "limits": chips}
    assert "envFrom" not in container


def test_manifest_with_everything(tools):
    manifest = submitted(
        tools,
        *["--spot", "--num_slices=2", "--chips_per_host=8", "--max_restarts=7"],
        *["--namespace=n", "--service_account=s", "--queue=q", "--secret=hub"],
    )
    job, slice_, pod = pod_of(manifest)
    assert tools.calls[-1][:2] == ["kubectl", "--namespace=n"]
    assert manifest["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "q"}
    assert manifest["spec"]["failurePolicy"] == {"maxRestarts": 7}
    assert (job["replicas"], slice_["completions"]) == (2, 32)
    assert pod["nodeSelector"]["cloud.google.com/gke-spot"] == "true"
    spot = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}
    assert pod["tolerations"] == [{**spot, "effect": "NoSchedule"}]
    assert pod["serviceAccountName"] == "s"
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "hub"}}]
    assert container["resources"]["limits"] == {"google.com/tpu": 8}


@pytest.mark.parametrize(
    ("tpu", "accelerator", "hosts"),
    [
        ("v4:4x4x8", "tpu-v4-podslice", 32),
        ("v5p:2x2x1", "tpu-v5p-slice", 1),
        ("v6e:4x8", "tpu-v6e-slice", 8),
    ],
)
def test_generations(tools, tpu, accelerator, hosts):
    _, slice_, pod = pod_of(submitted(tools, f"--tpu={tpu}"))
    assert slice_["parallelism"] == hosts
    selector = pod["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-accelerator"] == accelerator
    assert selector["cloud.google.com/gke-tpu-topology"] == tpu.partition(":")[2]


def test_failing_apply_says_what_exists(tools):
    tools.answer(" apply ", {"status": 1, "stderr": "no JobSet here\n"})
    tools.answer(" get ", {"stdout": "jobset.jobset.x-k8s.io/base\n"})
    done = tools.run("gke/gke.sh", *SUBMIT, "--namespace=n", *JOB)
    assert done.returncode == 1
    assert "What there is of base: jobset.jobset.x-k8s.io/base" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(
        "end it with: ./launch/gke/gke.sh delete --name=base --namespace=n"
    )
    assert "--ignore-not-found" in tools.calls[-1]


def test_logs_status_and_delete(tools):
    line = "2026-01-01T00:00:0{}Z pod-{} step\n"
    tools.answer(" logs ", {"stdout": line.format(2, 0) + line.format(1, 1)})
    done = tools.run("gke/gke.sh", "logs", "--name=base")
    assert [row.split()[1] for row in done.stdout.splitlines()] == ["pod-1", "pod-0"]
    for action in ("status", "delete"):
        assert tools.run("gke/gke.sh", action, "--name=base").returncode == 0
    assert tools.calls == [
        ["kubectl", "logs", *POD_LOGS, "--max-log-requests=10000"],
        ["kubectl", "get", "jobset", "base"],
        ["kubectl", "get", "pods", POD_LOGS[0]],
        ["kubectl", "delete", "jobset", "base", "--ignore-not-found"],
    ]


def test_failing_delete_says_that_it_may_cost(tools):
    tools.answer(" delete ", {"status": 1})
    done = tools.run("gke/gke.sh", "delete", "--name=base")
    assert done.returncode == 1
    assert "error: base may still run and cost; see kubectl's message" in done.stderr


def test_dry_run(tools):
    done = tools.run("gke/gke.sh", *SUBMIT, "--dry-run", *JOB)
    *manifest, command = done.stdout.splitlines()
    file = f"--filename={tools.root}/runs/gke/base.yaml"
    assert shlex.split(command) == ["kubectl", "apply", file]
    assert yaml.safe_load("\n".join(manifest))["kind"] == "JobSet"
    assert tools.calls == []
    assert not (tools.root / "runs").exists()
