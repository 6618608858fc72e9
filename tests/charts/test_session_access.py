"""The chart of one session: who reaches it, what is refused, and what a person is told."""

import unittest

from chart import Refused
from test_session import CHART, NAME, UUID


class Ingress(unittest.TestCase):
    """The session's own route, for clusters without the gateway."""

    def test_there_is_none_by_default(self):
        self.assertEqual([name for name in CHART.objects() if name.startswith("Ingress")], [])

    def test_the_addresses_are_those_of_the_gateway(self):
        objects = CHART.objects("ingress.enabled=true")
        paths = {name: [(path["path"], path["pathType"], path["backend"]["service"])
                        for path in objects[f"Ingress {name}"]["spec"]["rules"][0]["http"]["paths"]]
                 for name in [NAME, f"{NAME}-strip"]}

        def backend(service):
            return {"name": f"{NAME}-{service}", "port": {"name": service}}

        regex, exact = "(/|$)(.*)", "ImplementationSpecific"
        self.assertEqual(paths, {
            NAME: [(f"/{UUID}/preview", "Prefix", backend("preview"))],
            f"{NAME}-strip": [(f"/{UUID}/chat{regex}", exact, backend("chat")),
                              (f"/{UUID}/vscode{regex}", exact, backend("vscode"))],
        })

    def test_only_chat_and_vscode_lose_their_prefix(self):
        objects = CHART.objects("ingress.enabled=true", "ingress.annotations.a=b")
        rewrite = {"nginx.ingress.kubernetes.io/rewrite-target": "/$2",
                   "nginx.ingress.kubernetes.io/use-regex": "true"}
        self.assertEqual(objects[f"Ingress {NAME}"]["metadata"]["annotations"], {"a": "b"})
        self.assertEqual(objects[f"Ingress {NAME}-strip"]["metadata"]["annotations"], {"a": "b", **rewrite})

    def test_another_controller_rewrites_in_its_own_way(self):
        strip = {"annotations": {"haproxy-ingress.github.io/rewrite-target": "/",
                                 "nginx.ingress.kubernetes.io/rewrite-target": None,
                                 "nginx.ingress.kubernetes.io/use-regex": None},
                 "suffix": "", "pathType": "Prefix"}
        made = CHART.objects(values={"ingress": {"enabled": True, "strip": strip}})[f"Ingress {NAME}-strip"]
        self.assertEqual(made["metadata"]["annotations"], {"haproxy-ingress.github.io/rewrite-target": "/"})
        path = made["spec"]["rules"][0]["http"]["paths"][0]
        self.assertEqual((path["path"], path["pathType"]), (f"/{UUID}/chat", "Prefix"))

    def test_host_class_and_certificate_are_on_both(self):
        tls = [{"hosts": ["dev.example.com"], "secretName": "certificate"}]
        ingress = {"enabled": True, "className": "nginx", "host": "dev.example.com", "tls": tls}
        objects = CHART.objects(values={"ingress": ingress})
        for name in [NAME, f"{NAME}-strip"]:
            spec = objects[f"Ingress {name}"]["spec"]
            self.assertEqual((spec["ingressClassName"], spec["tls"], spec["rules"][0]["host"]),
                             ("nginx", tls, "dev.example.com"))


class NetworkPolicy(unittest.TestCase):
    """Who may connect, and to where."""

    ADMITTED = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "session-gateway"}}}]

    def spec(self, **more):
        """What it says."""
        values = {"networkPolicy": {"enabled": True, "admitted": self.ADMITTED, **more}}
        return CHART.objects(values=values)[f"NetworkPolicy {NAME}"]["spec"]

    def test_there_is_none_by_default(self):
        self.assertNotIn(f"NetworkPolicy {NAME}", CHART.objects())

    def test_those_admitted_may_connect_and_nobody_else(self):
        spec = self.spec()
        self.assertEqual(spec["podSelector"], {"matchLabels": {"dev-session/uuid": UUID}})
        self.assertEqual(spec["policyTypes"], ["Ingress", "Egress"])
        self.assertEqual(spec["ingress"], [{"from": self.ADMITTED}])

    def test_the_session_reaches_names_and_the_internet_only(self):
        names, internet = self.spec()["egress"]
        self.assertEqual(names, {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]})
        self.assertEqual(internet, {"to": [
            {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16",
                                                         "172.16.0.0/12", "192.168.0.0/16"]}},
            {"ipBlock": {"cidr": "::/0", "except": ["fc00::/7", "fe80::/10"]}},
        ]})

    def test_an_empty_list_is_left_out(self):
        # The API server would change such an object at every apply.
        [_, internet] = self.spec(blocked=["10.0.0.0/8"])["egress"]
        self.assertEqual(internet["to"][1], {"ipBlock": {"cidr": "::/0"}})

    def test_a_policy_that_admits_nobody_is_refused(self):
        self.assertIn("networkPolicy.admitted", CHART.refusal(*CHART.needs, "networkPolicy.enabled=true"))


class Refusals(unittest.TestCase):
    """What is not installed, and why."""

    def test_there_is_one_spelling_of_a_uuid(self):
        spellings = [
            "", UUID.upper(), UUID.replace("-", ""), f"{{{UUID}}}", f"urn:uuid:{UUID}", UUID[:-1], f"{UUID}0",
            f" {UUID}", f"{UUID}\n", f"{UUID}/", UUID.replace("3f", "3g"), UUID.replace("-5d4a-", "5-d4a-"),
            UUID.replace("-", "_"), "3f2b8c1e-5d4a-4c6b-9e7f", "../etc", 7, None,
        ]
        for uuid in spellings:
            with self.subTest(uuid=uuid):
                values = {"project": {"uuid": uuid}, "image": {"repository": "x"}}
                self.assertIn("uuid", CHART.refusal(values=values))

    def test_any_canonical_uuid_is_taken(self):
        for uuid in ["0" * 8 + "-0000-0000-0000-" + "0" * 12, "f" * 8 + "-ffff-ffff-ffff-" + "f" * 12]:
            with self.subTest(uuid=uuid):
                values = {"project": {"uuid": uuid}, "image": {"repository": "x"}}
                self.assertIn(f"dev-session-{uuid}", CHART.template(values=values))

    def test_an_unknown_key_is_refused_wherever_it_is(self):
        sections = ["", "project", "user", "image", "service", "service.lb", "service.chat", "ingress",
                    "ingress.strip", "storage", "resources", "podTemplate", "networkPolicy"]
        for section in sections:
            key = f"{section}.typo".lstrip(".")
            with self.subTest(key):
                self.assertIn("'typo' not allowed", CHART.refusal(*CHART.needs, f"{key}=x"))

    def test_a_wrong_value_is_refused(self):
        wrong = ["project.id=a b", "project.id=-1", "user.id=9007199254740993", "user.id=-x", "user.id=null",
                 "image.pullPolicy=Sometimes", "image.digest=sha256:0", "image.tag=a/b", "service.chat.port=0",
                 "service.chat.port=65536", "service.chat.port=http", "service.chat.path=chat", "service.chat.path=/-",
                 "service.chat.path=/..", "service.chat.path=/a/b", "service.chat.path=/a%20b", "service.chat=null",
                 "storage.size=big", "storage.accessMode=ReadOnlyMany", "storage.mountPath=workspace",
                 "resources.limits.cpu=much", "ingress.enabled=maybe", "env.A-B=c", "env.USER_ID=1",
                 "env.CHAT_BASE_PATH=/x", "env.A.b=c", "nodeSelector.a=true", "networkPolicy.blocked={10.0.0.0}"]
        for pair in wrong:
            with self.subTest(pair):
                self.assertIn("at '/", CHART.refusal(*CHART.needs, pair))

    def test_an_image_has_to_be_named(self):
        self.assertIn("--set image.repository=", CHART.refusal(f"project.uuid={UUID}"))

    def test_two_services_cannot_share_a_port_or_a_path(self):
        port = CHART.refusal(*CHART.needs, "service.chat.port=3000")
        self.assertIn("service.vscode.port are 3000, 3000, 8080: each needs its own", port)
        path = CHART.refusal(*CHART.needs, "service.chat.path=/vscode")
        self.assertIn("service.vscode.path are /vscode, /preview, /vscode: each needs its own", path)

    def test_all_that_is_wrong_is_told_at_once(self):
        told = CHART.refusal(f"project.uuid={UUID}", "networkPolicy.enabled=true", "service.chat.port=3000")
        for part in ["image.repository", "networkPolicy.admitted", "service.chat.port"]:
            self.assertIn(part, told)


class Notes(unittest.TestCase):
    """What a person is told after the installation."""

    def test_the_next_command_is_there_to_be_copied(self):
        notes = CHART.notes()
        self.assertIn(f"kubectl rollout status deployment/{NAME} --namespace {UUID}\n", notes)
        self.assertIn(f"kubectl port-forward service/{NAME}-lb 3000 3001 8080 --namespace {UUID}\n", notes)
        self.assertIn(f"helm uninstall {NAME} --namespace {UUID}\n  kubectl delete namespace {UUID}", notes)

    def test_with_an_ingress_its_address_is_given(self):
        notes = CHART.notes("ingress.enabled=true", "ingress.host=dev.example.com")
        self.assertIn(f"http://dev.example.com/{UUID}/preview\n", notes)
        self.assertNotIn("port-forward", notes)

    def test_a_namespace_of_others_is_remarked_and_not_to_be_deleted(self):
        notes = CHART.notes(namespace="default")
        self.assertIn("It is in the namespace default", notes)
        self.assertIn(f"--namespace {UUID} --create-namespace", notes)
        self.assertNotIn("delete namespace", notes)
        self.assertNotIn("It is in the namespace", CHART.notes())


class Harness(unittest.TestCase):
    """What would make the tests above hold for nothing."""

    def test_what_helm_refuses_is_no_output(self):
        with self.assertRaises(Refused):
            CHART.template()
        with self.assertRaises(AssertionError):
            CHART.refusal(*CHART.needs)

