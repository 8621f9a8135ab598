"""deploy/ for more than one machine: objects that Kubernetes takes, settings that are known, no open door."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from proxies import DEPLOY

from core.settings import REPOSITORY, Settings

OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "secondread.yaml").read_text(encoding="utf-8")))
COMPOSE = yaml.safe_load((DEPLOY / "cluster.compose.yaml").read_text(encoding="utf-8").replace(":?Set it in .env", ""))


def pods() -> list[dict[str, Any]]:
    return [one["spec"]["template"]["spec"] for one in OBJECTS if one["kind"] == "Deployment"]


@pytest.mark.parametrize("number", range(len(OBJECTS)))
def test_kubernetes_takes_each_object(number: int) -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    kubernetes_validate.validate(OBJECTS[number], "1.31", strict=True)


def test_a_wrong_object_would_be_noticed() -> None:
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    wrong = {**OBJECTS[2], "spec": {**OBJECTS[2]["spec"], "replicaz": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


def test_the_application_knows_the_settings_of_both_descriptions() -> None:
    (shared,) = [one["data"] for one in OBJECTS if one["kind"] == "ConfigMap"]
    for environment in (shared, COMPOSE["x-node"]["environment"]):
        settings = Settings.from_environment(
            {**environment, "SECONDREAD_DATABASE_URL": "postgresql://x:y@z/secondread"}
        )
        assert settings.ray_address == "ray-head:6379" and environment["RAY_AUTH_MODE"] == "token"
        assert settings.serve_url == "http://ray-head:8000" and settings.serving != "cluster", "only where it is wanted"


def test_replicas_run_only_where_a_site_asks_for_them_and_are_reached_at_the_head() -> None:
    (pod,) = [one["spec"] for one in OBJECTS if one["kind"] == "Deployment" and one["metadata"]["name"] == "replicas"]
    assert pod["replicas"] == 0 and "python -m core cluster serve" in str(pod["template"])
    (head,) = [one["spec"] for one in OBJECTS if one["kind"] == "Service" and one["metadata"]["name"] == "ray-head"]
    assert 8000 in [port["port"] for port in head["ports"]]
    service = COMPOSE["services"]["replicas"]
    assert service["profiles"] == ["replicas"] and service["command"][-1].endswith("python -m core cluster serve")


def test_all_pods_share_the_state_and_the_token_and_may_nothing_else() -> None:
    for pod in pods():
        (container,) = pod["containers"]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/var/lib/secondread", "/run/ray"}
        assert container["securityContext"]["readOnlyRootFilesystem"] and pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]


def test_every_label_that_is_selected_is_on_a_pod() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in OBJECTS if one["kind"] == "Deployment"]
    for one in OBJECTS:
        if one["kind"] == "Service":
            assert sum(one["spec"]["selector"].items() <= found.items() for found in labels) == 1


def test_no_port_of_the_cluster_is_reached_from_outside() -> None:
    assert not any("ports" in service for service in COMPOSE["services"].values())
    (policy,) = [one["spec"] for one in OBJECTS if one["kind"] == "NetworkPolicy"]
    own, ingress = policy["ingress"]
    assert own["from"] == [{"podSelector": {"matchLabels": {"app": "secondread"}}}] and "ports" not in own
    assert ingress["ports"] == [{"port": 8501}]


def test_the_ingress_writes_no_address_with_a_one_time_link_into_its_log() -> None:
    (ingress,) = [one for one in OBJECTS if one["kind"] == "Ingress"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/enable-access-log"] == "false"
    document = (REPOSITORY / "docs" / "cluster.md").read_text(encoding="utf-8")
    assert "error-log-level: crit" in document, "which only the controller's own settings can say"


def test_the_image_takes_the_pinned_requirements() -> None:
    text = (DEPLOY / "cluster.Dockerfile").read_text(encoding="utf-8")
    assert "requirements-cluster.txt" in text and (REPOSITORY / "requirements-cluster.txt").is_file()
    assert "USER 10001:10001" in text.splitlines()[-1]
