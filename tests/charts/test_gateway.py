"""The chart of the gateway: how it runs, and with which configuration."""

import re
import tomllib
import unittest

from chart import Chart, load, ROOT

NAME = "session-gateway"
IMAGE = "config.image.repository=example/session"
FINE = "auth.none_is_fine=true"
CHART = Chart(NAME, NAME, "gateways", (FINE, IMAGE))
LABELS = {"app.kubernetes.io/name": NAME, "app.kubernetes.io/instance": NAME}


def deployment(*sets, **values):
    """What it says of the pods."""
    return CHART.objects(*sets, **values)[f"Deployment {NAME}"]["spec"]


def pod(*sets, **values):
    """The pod."""
    return deployment(*sets, **values)["template"]["spec"]


def container(*sets, **values):
    """The gateway's container."""
    return pod(*sets, **values)["containers"][0]


def config(*sets, **values):
    """The configuration that the gateway reads."""
    [file] = load(CHART.objects(*sets, **values)[f"ConfigMap {NAME}"]["data"]["config.yaml"])
    return file


class Defaults(unittest.TestCase):
    """With nothing set but what has to be."""

    @classmethod
    def setUpClass(cls):
        cls.objects = CHART.objects()

    def test_the_objects_are_these(self):
        self.assertEqual(set(self.objects), {
            f"Deployment {NAME}", f"ConfigMap {NAME}", f"Service {NAME}", f"ServiceAccount {NAME}",
            f"NetworkPolicy {NAME}", f"ClusterRole gateways:{NAME}", f"ClusterRoleBinding gateways:{NAME}"})

    def test_every_object_says_what_it_belongs_to(self):
        for name, made in self.objects.items():
            with self.subTest(name):
                labels = made["metadata"]["labels"]
                self.assertEqual({key: labels[key] for key in LABELS}, LABELS)
                self.assertEqual(labels["app.kubernetes.io/managed-by"], "Helm")
                namespace = None if name.startswith("Cluster") else "gateways"
                self.assertEqual(made["metadata"].get("namespace"), namespace)

    def test_helm_has_nothing_against_it(self):
        self.assertIn("0 chart(s) failed", CHART.lint())

    def test_another_release_has_other_names(self):
        other = Chart(NAME, "two", "gateways", CHART.needs).objects()
        self.assertEqual(set(other) & set(self.objects), set())
        self.assertIn("Deployment two-session-gateway", other)


class Running(unittest.TestCase):
    """The Deployment and how it is replaced."""

    def test_a_new_gateway_is_ready_before_an_old_one_leaves(self):
        spec = deployment()
        self.assertEqual(spec["replicas"], 2)
        self.assertEqual(spec["strategy"],
                         {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})

    def test_an_autoscaler_may_choose_the_number(self):
        self.assertNotIn("replicas", deployment("replicas=null"))
        self.assertEqual(deployment("replicas=0")["replicas"], 0)

    def test_the_pods_are_the_ones_that_are_looked_for(self):
        spec = deployment()
        self.assertEqual(spec["selector"], {"matchLabels": LABELS})
        self.assertEqual({key: spec["template"]["metadata"]["labels"][key] for key in LABELS}, LABELS)

    def test_the_version_is_that_of_the_program(self):
        version = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
        self.assertEqual(container()["image"], f"session-gateway:{version}")
        self.assertEqual(container("image.tag=1.2", "image.repository=a/b")["image"], "a/b:1.2")
        digest = "sha256:" + "0" * 64
        self.assertEqual(container(f"image.digest={digest}")["image"], f"session-gateway@{digest}")
        self.assertEqual(pod("image.pullSecrets={a}")["imagePullSecrets"], [{"name": "a"}])

    def test_it_reads_the_configuration_that_is_mounted(self):
        spec = pod()
        self.assertEqual(spec["containers"][0]["args"], ["serve", "--config", "/etc/session-gateway/config.yaml"])
        self.assertEqual(spec["containers"][0]["volumeMounts"],
                         [{"name": "config", "mountPath": "/etc/session-gateway", "readOnly": True}])
        self.assertEqual(spec["volumes"], [{"name": "config", "configMap": {"name": NAME}}])

    def test_probes_ask_what_the_program_answers(self):
        made = container()
        served = set(re.findall(r'\.route\("(/\w+)"', (ROOT / "src/admin.rs").read_text()))
        paths = {"livenessProbe": "/livez", "readinessProbe": "/readyz"}
        for probe, path in paths.items():
            self.assertEqual(made[probe]["httpGet"], {"path": path, "port": "admin"})
            self.assertIn(path, served)

    def test_ports_are_those_of_the_configuration(self):
        def ports(*sets):
            return {port["name"]: port["containerPort"] for port in container(*sets)["ports"]}

        self.assertEqual(ports(), {"http": 8000, "admin": 8001})
        self.assertEqual(ports("config.listen=[::]:9000", "config.admin.listen=0.0.0.0:9001"),
                         {"http": 9000, "admin": 9001})

    def test_it_may_do_nothing_on_its_node(self):
        spec = pod()
        self.assertEqual(spec["securityContext"], {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"}})
        self.assertEqual(spec["containers"][0]["securityContext"], {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})
        self.assertIs(spec["enableServiceLinks"], False)

    def test_it_has_time_to_end(self):
        def times(*sets):
            spec = pod(*sets)
            wait = spec["containers"][0].get("lifecycle")
            return spec["terminationGracePeriodSeconds"], wait and wait["preStop"]["sleep"]["seconds"]

        self.assertEqual(times(), (5 + 10 + 5, 5))
        self.assertEqual(times("preStopSeconds=0"), (10 + 5, None))
        graces = {"25s": 25, "1m 30s": 90, "2min": 120, "1h": 3600, "1500ms": 2}
        for grace, seconds in graces.items():
            with self.subTest(grace):
                self.assertEqual(times(f"config.shutdown.grace={grace}")[0], 5 + seconds + 5)
        self.assertEqual(times("config.shutdown.delay=3s")[0], 5 + 3 + 10 + 5)

    def test_what_else_a_pod_may_need_is_passed_on(self):
        env = [{"name": "SESSION_GATEWAY__LOG__LEVEL", "value": "debug"}]
        toleration, affinity = {"key": "a"}, {"nodeAffinity": {}}
        values = {"env": env, "nodeSelector": {"a": "b"}, "tolerations": [toleration], "affinity": affinity,
                  "resources": {"limits": {"memory": "1Gi"}}, "podAnnotations": {"c": "d"}}
        spec = pod(values=values)
        self.assertEqual(spec["containers"][0]["env"], env)
        self.assertEqual(spec["containers"][0]["resources"]["limits"], {"memory": "1Gi"})
        self.assertEqual((spec["nodeSelector"], spec["tolerations"], spec["affinity"]),
                         ({"a": "b"}, [toleration], affinity))
        self.assertEqual(deployment(values=values)["template"]["metadata"]["annotations"]["c"], "d")

    def test_gateways_are_spread_over_nodes(self):
        [spread] = pod()["topologySpreadConstraints"]
        self.assertEqual(spread, {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1,
                                  "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": LABELS}})


class Configuration(unittest.TestCase):
    """The file that the gateway reads."""

    def test_the_chart_sets_what_it_knows(self):
        self.assertEqual(config(), {
            "spawner": "kubernetes",
            "listen": "0.0.0.0:8000",
            "admin": {"listen": "0.0.0.0:8001"},
            "auth": {"none_is_fine": True},
            "shutdown": {"grace": "10s"},
            "image": {"repository": "example/session"},
            "networkPolicy": {"admitted": [{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}},
                "podSelector": {"matchLabels": LABELS},
            }]},
        })

    def test_the_token_of_a_secret_is_where_the_configuration_says(self):
        sets = ["admin.tokenSecret=operators"]
        spec = pod(*sets)
        [mount] = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "admin"]
        [volume] = [one for one in spec["volumes"] if one["name"] == "admin"]
        self.assertEqual(volume["secret"], {"secretName": "operators"})
        self.assertTrue(mount["readOnly"])
        self.assertEqual(config(*sets)["admin"],
                         {"listen": "0.0.0.0:8001", "token_file": f"{mount['mountPath']}/token"})

    def test_what_is_given_wins(self):
        given = {
            "spawner": "other",
            "listen": "[::]:80",
            "admin": {"listen": "127.0.0.1:1"},
            "auth": {"none_is_fine": True},
            "shutdown": {"grace": "1s"},
            "image": {"repository": "a"},
            "networkPolicy": {"admitted": []},
        }
        self.assertEqual(config(values={"config": given}), {**given, "image": {"repository": "example/session"}})

    def test_any_other_key_is_passed_on(self):
        given = {"spawn": {"hold": "30s", "held": 10000000}, "hosts": ["a"], "networkPolicy": {"mode": False},
                 "log": {"level": "off"}, "empty": [], "none": ""}
        made = config(values={"config": given})
        self.assertEqual({key: made[key] for key in ["spawn", "hosts", "log", "empty", "none"]},
                         {key: given[key] for key in ["spawn", "hosts", "log", "empty", "none"]})
        self.assertIs(made["networkPolicy"]["mode"], False)
        self.assertEqual(len(made["networkPolicy"]["admitted"]), 1)

    def test_a_changed_configuration_replaces_the_pods(self):
        def checksum(*sets):
            return deployment(*sets)["template"]["metadata"]["annotations"]["checksum/config"]

        self.assertEqual(checksum(), checksum())
        self.assertNotEqual(checksum(), checksum("config.spawn.hold=30s"))
