"""The chart of one session: what it makes of which values."""

import unittest

from chart import Chart, load, ROOT

UUID = "3f2b8c1e-5d4a-4c6b-9e7f-0a1b2c3d4e5f"
NAME = f"dev-session-{UUID}"
CHART = Chart("dev-session-template", NAME, UUID, (f"project.uuid={UUID}", "image.repository=example/session"))
PORTS = {"preview": 3000, "chat": 3001, "vscode": 8080}


def pod(*sets, **values):
    """The pod's template."""
    return CHART.objects(*sets, **values)[f"Deployment {NAME}"]["spec"]["template"]


def container(*sets, **values):
    """The session's container."""
    return pod(*sets, **values)["spec"]["containers"][0]


def environment(*sets, **values):
    """Its variables, in their order."""
    return {variable["name"]: variable["value"] for variable in container(*sets, **values)["env"]}


class Defaults(unittest.TestCase):
    """With nothing set but the session itself."""

    @classmethod
    def setUpClass(cls):
        cls.objects = CHART.objects("project.id=7", "user.id=42")

    def test_the_objects_are_these(self):
        self.assertEqual(set(self.objects), {
            f"Deployment {NAME}", f"ServiceAccount {NAME}", f"PersistentVolumeClaim {NAME}-workspace",
            f"Service {NAME}-lb", f"Service {NAME}-preview", f"Service {NAME}-chat", f"Service {NAME}-vscode"})

    def test_every_object_says_whose_it_is(self):
        labels = {
            "app.kubernetes.io/name": "dev-session",
            "app.kubernetes.io/instance": NAME,
            "app.kubernetes.io/managed-by": "Helm",
            "dev-session/uuid": UUID,
            "dev-session/project-id": "7",
            "dev-session/user-id": "42",
        }
        for name, made in self.objects.items():
            with self.subTest(name):
                self.assertEqual(made["metadata"]["labels"], labels)
                self.assertEqual(made["metadata"]["namespace"], UUID)

    def test_the_pod_is_the_one_that_the_gateway_makes(self):
        [expected] = load((ROOT / "tests/charts/pod.yaml").read_text())
        self.assertEqual(self.objects[f"Deployment {NAME}"]["spec"]["template"], expected)

    def test_there_are_never_two_pods(self):
        spec = self.objects[f"Deployment {NAME}"]["spec"]
        self.assertEqual((spec["replicas"], spec["strategy"]), (1, {"type": "Recreate"}))
        self.assertEqual(spec["selector"], {"matchLabels": {"dev-session/uuid": UUID}})

    def test_the_account_has_no_token(self):
        self.assertIs(self.objects[f"ServiceAccount {NAME}"]["automountServiceAccountToken"], False)

    def test_each_service_leads_to_its_ports(self):
        for name, services in {"lb": list(PORTS), **{name: [name] for name in PORTS}}.items():
            with self.subTest(name):
                ports = [{"name": service, "port": PORTS[service], "targetPort": service, "protocol": "TCP"}
                         for service in services]
                spec = {"type": "ClusterIP", "selector": {"dev-session/uuid": UUID}, "ports": ports}
                self.assertEqual(self.objects[f"Service {NAME}-{name}"]["spec"], spec)

    def test_the_disk_is_of_the_cluster_s_default_class(self):
        self.assertEqual(self.objects[f"PersistentVolumeClaim {NAME}-workspace"]["spec"], {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}})

    def test_helm_has_nothing_against_it(self):
        self.assertIn("0 chart(s) failed", CHART.lint())


class Values(unittest.TestCase):
    """With values of all kinds."""

    def test_ids_are_text_however_they_are_written(self):
        large = {"project": {"id": 12345678}, "user": {"id": 9007199254740991}}
        self.assertEqual(list(environment(values=large).values())[1:3], ["12345678", "9007199254740991"])
        labels = pod(values={"project": {"id": "p_1.x"}, "user": {"id": "0042"}})["metadata"]["labels"]
        self.assertEqual((labels["dev-session/project-id"], labels["dev-session/user-id"]), ("p_1.x", "0042"))
        self.assertEqual(environment("project.id=7")["PROJECT_ID"], "7")
        self.assertEqual(environment()["USER_ID"], "0")

    def test_ports_and_paths_reach_pod_services_and_environment(self):
        sets = ("service.chat.port=4001", "service.vscode.path=/code", "service.preview.path=/p.1~x")
        variables = environment(*sets)
        self.assertEqual(variables["CHAT_PORT"], "4001")
        self.assertEqual(variables["VSCODE_BASE_PATH"], f"/{UUID}/code")
        self.assertEqual(variables["PREVIEW_BASE_PATH"], f"/{UUID}/p.1~x")
        objects = CHART.objects(*sets)
        self.assertEqual(objects[f"Service {NAME}-chat"]["spec"]["ports"][0]["port"], 4001)
        self.assertEqual(objects[f"Service {NAME}-lb"]["spec"]["ports"][1]["port"], 4001)
        self.assertEqual(container(*sets)["ports"][1], {"name": "chat", "containerPort": 4001, "protocol": "TCP"})

    def test_the_environment_s_own_variables_come_last_in_their_order(self):
        env = {"Z": "z", "A": 12345678, "FLAG": True, "EMPTY": ""}
        variables = environment(values={"env": env})
        self.assertEqual(list(variables.items())[10:],
                         [("A", "12345678"), ("EMPTY", ""), ("FLAG", "true"), ("Z", "z")])

    def test_an_image_is_of_a_tag_or_of_a_digest(self):
        self.assertEqual(container("image.tag=1.2")["image"], "example/session:1.2")
        digest = "sha256:" + "0" * 64
        self.assertEqual(container("image.tag=1.2", f"image.digest={digest}")["image"], f"example/session@{digest}")
        self.assertEqual(container("image.pullPolicy=Always")["imagePullPolicy"], "Always")
        self.assertEqual(pod("image.pullSecrets={a,b}")["spec"]["imagePullSecrets"], [{"name": "a"}, {"name": "b"}])

    def test_the_disk_is_what_is_asked_for(self):
        sets = ("storage.size=5Gi", "storage.className=fast", "storage.accessMode=ReadWriteOncePod",
                "storage.mountPath=/home/dev")
        claim = CHART.objects(*sets)[f"PersistentVolumeClaim {NAME}-workspace"]["spec"]
        self.assertEqual(claim, {"accessModes": ["ReadWriteOncePod"], "storageClassName": "fast",
                                 "resources": {"requests": {"storage": "5Gi"}}})
        self.assertEqual(container(*sets)["volumeMounts"], [{"name": "workspace", "mountPath": "/home/dev"}])
        self.assertEqual(environment(*sets)["WORKSPACE"], "/home/dev")

    def test_without_a_disk_the_workspace_is_the_pod_s(self):
        off = "storage.enabled=false"
        self.assertNotIn(f"PersistentVolumeClaim {NAME}-workspace", CHART.objects(off))
        self.assertEqual(pod(off)["spec"]["volumes"], [{"name": "workspace", "emptyDir": {}}])
        self.assertEqual(container(off)["volumeMounts"], [{"name": "workspace", "mountPath": "/workspace"}])

    def test_resources_are_amounts_of_any_kind(self):
        limits = {"cpu": 0.5, "memory": 4294967296, "ephemeral-storage": "1Gi"}
        self.assertEqual(container(values={"resources": {"limits": limits}})["resources"]["limits"],
                         {"cpu": "0.5", "memory": "4294967296", "ephemeral-storage": "1Gi"})

    def test_nodes_are_chosen(self):
        toleration = {"key": "dev", "operator": "Exists"}
        spec = pod(values={"nodeSelector": {"pool": "dev"}, "tolerations": [toleration]})["spec"]
        self.assertEqual((spec["nodeSelector"], spec["tolerations"]), ({"pool": "dev"}, [toleration]))

    def test_the_main_service_can_be_left_out(self):
        objects = CHART.objects("service.lb.enabled=false")
        self.assertNotIn(f"Service {NAME}-lb", objects)
        self.assertIn(f"Service {NAME}-chat", objects)


class PodTemplate(unittest.TestCase):
    """What is merged over the pod."""

    def test_nothing_merged_changes_nothing(self):
        self.assertEqual(pod(values={"podTemplate": {"metadata": {}, "spec": {}}}), pod())

    def test_fields_are_merged_one_by_one(self):
        merged = pod(values={"podTemplate": {
            "metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
            "spec": {"terminationGracePeriodSeconds": 60, "securityContext": {"runAsUser": 2000}}}})
        expected = pod()
        expected["metadata"]["labels"]["team"] = "a"
        expected["metadata"]["annotations"] = {"note": "b"}
        expected["spec"]["terminationGracePeriodSeconds"] = 60
        expected["spec"]["securityContext"]["runAsUser"] = 2000
        self.assertEqual(merged, expected)

    def test_null_removes_a_field(self):
        spec = {"securityContext": {"fsGroup": None}, "enableServiceLinks": None}
        merged = pod(values={"podTemplate": {"spec": spec}})["spec"]
        self.assertNotIn("fsGroup", merged["securityContext"])
        self.assertNotIn("enableServiceLinks", merged)

    def test_containers_are_merged_by_name(self):
        merged = pod(values={"podTemplate": {"spec": {
            "containers": [{"name": "helper", "image": "helper"}, {"name": "session", "stdin": True}],
            "initContainers": [{"name": "first", "image": "first"}]}}})["spec"]
        session = {**container(), "stdin": True}
        self.assertEqual(merged["containers"], [session, {"name": "helper", "image": "helper"}])
        self.assertEqual(merged["initContainers"], [{"name": "first", "image": "first"}])

    def test_lists_are_merged_by_their_own_keys(self):
        session = {
            "name": "session",
            "env": [{"name": "USER_ID", "value": "other"}, {"name": "NEW", "value": "new"}],
            "ports": [{"containerPort": 3001, "hostPort": 3001}, {"containerPort": 9229, "name": "debug"}],
            "volumeMounts": [{"mountPath": "/cache", "name": "cache"}, {"mountPath": "/workspace", "subPath": "a"}],
        }
        volumes = [{"name": "cache", "emptyDir": {}}]
        values = {"podTemplate": {"spec": {"containers": [session], "volumes": volumes}}}
        merged = container(values=values)
        before = container()
        names = [variable["name"] for variable in merged["env"]]
        self.assertEqual(names, [variable["name"] for variable in before["env"]] + ["NEW"])
        self.assertEqual(environment(values=values)["USER_ID"], "other")
        self.assertEqual([port["containerPort"] for port in merged["ports"]], [3000, 3001, 8080, 9229])
        self.assertEqual(merged["ports"][1], {**before["ports"][1], "hostPort": 3001})
        self.assertEqual(merged["volumeMounts"], [{**before["volumeMounts"][0], "subPath": "a"},
                                                  {"mountPath": "/cache", "name": "cache"}])
        self.assertEqual([volume["name"] for volume in pod(values=values)["spec"]["volumes"]], ["workspace", "cache"])
        secrets = {"image": {"pullSecrets": ["a"]}, "podTemplate": {"spec": {"imagePullSecrets": [{"name": "b"}]}}}
        self.assertEqual(pod(values=secrets)["spec"]["imagePullSecrets"], [{"name": "a"}, {"name": "b"}])

    def test_other_lists_are_replaced(self):
        values = {"tolerations": [{"key": "a"}], "podTemplate": {"spec": {"tolerations": [{"key": "b"}]}}}
        self.assertEqual(pod(values=values)["spec"]["tolerations"], [{"key": "b"}])
        drop = {"name": "session", "securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}
        merged = container(values={"podTemplate": {"spec": {"containers": [drop]}}})
        self.assertEqual(merged["securityContext"],
                         {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["NET_RAW"]}})
