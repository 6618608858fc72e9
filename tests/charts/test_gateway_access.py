"""The chart of the gateway: what it may do, who reaches it, what is refused, and what a person is told."""

import re
import unittest

from chart import ROOT
from test_gateway import CHART, FINE, IMAGE, LABELS, NAME

SECRETS = "config.envSecrets={keys}"
QUOTA = "config.quota.pods=2"
ACCOUNT = {"kind": "ServiceAccount", "name": NAME, "namespace": "gateways"}


def granted(role):
    """What a role allows: verbs by resource, and of which names."""
    rules = {}
    for rule in role["rules"]:
        for resource in rule["resources"]:
            group = "networking.k8s.io" if resource == "networkpolicies" else ""
            assert rule["apiGroups"] == [group], rule
            assert resource not in rules, f"{resource} twice"
            rules[resource] = (set(rule["verbs"]), rule.get("resourceNames"))
    return rules


def documented(table):
    """What one of the README's tables says: verbs and the condition by resource."""
    text = (ROOT / "deploy/charts/session-gateway/README.md").read_text()
    rows = text.split("| what | verbs | when |\n| --- | --- | --- |\n")[table].split("\n\n")[0]
    found = {}
    for row in rows.splitlines():
        what, verbs, when = (cell.strip() for cell in row.strip("|").split("|"))
        for resource in what.removesuffix(", only those named").split(", "):
            found[resource] = (set(verbs.split(", ")), when)
    return found


class Permissions(unittest.TestCase):
    """Exactly those that the README names."""

    def test_they_are_the_documented_ones(self):
        named = "`config.image.pullSecrets` or `config.envSecrets` name some, or those of a profile"
        conditions = {"": [], named: [SECRETS],
                      "`config.quota` is set": [QUOTA]}
        every = documented(1)
        self.assertEqual(len(every), 11)
        for sets in [[], [SECRETS], [QUOTA], [SECRETS, QUOTA]]:
            with self.subTest(sets):
                expected = {resource: (verbs, None) for resource, (verbs, when) in every.items()
                            if set(conditions[when]) <= set(sets)}
                role = CHART.objects(*sets)[f"ClusterRole gateways:{NAME}"]
                self.assertEqual(granted(role), expected)

    def test_no_verb_came_in_by_the_documentation(self):
        every = {resource: verbs for resource, (verbs, _) in documented(1).items()}
        apply = {"create", "patch"}
        self.assertEqual(every, {
            "namespaces": {"get", "create", "delete"}, "serviceaccounts": {"get", "list"} | apply, "pods/log": {"get"},
            "pods": {"get", "list", "watch", "create", "patch", "delete"}, "persistentvolumeclaims": {"get", "create"},
            "limitranges": {"get"} | apply, "services": {"get"} | apply, "networkpolicies": {"get"} | apply,
            "events": {"list", "watch"}, "secrets": apply, "resourcequotas": {"get"} | apply})

    def test_named_secrets_alone_are_read_and_only_here(self):
        objects = CHART.objects("config.image.pullSecrets={registry,keys}", SECRETS)
        role = objects[f"Role {NAME}"]
        self.assertEqual(role["metadata"]["namespace"], "gateways")
        self.assertEqual(granted(role), {"secrets": ({"get"}, ["registry", "keys"])})
        self.assertEqual(documented(2)["secrets"][0], {"get"})
        profile = {"config": {"envSecrets": ["keys"], "profiles": {"large": {"envSecrets": ["more", "keys"]}}}}
        role = CHART.objects(values=profile)[f"Role {NAME}"]
        self.assertEqual(granted(role), {"secrets": ({"get"}, ["keys", "more"])})
        self.assertEqual([name for name in CHART.objects() if name.startswith("Role")], [])

    def test_every_role_is_given_to_the_gateway_alone(self):
        objects = CHART.objects(SECRETS)
        self.assertEqual(objects[f"Deployment {NAME}"]["spec"]["template"]["spec"]["serviceAccountName"], NAME)
        self.assertIn(f"ServiceAccount {NAME}", objects)
        for kind, name in [("ClusterRole", f"gateways:{NAME}"), ("Role", NAME)]:
            with self.subTest(kind):
                binding = objects[f"{kind}Binding {name}"]
                self.assertEqual(binding["roleRef"],
                                 {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name})
                self.assertEqual(binding["subjects"], [ACCOUNT])

    def test_a_shared_namespace_is_all_it_reaches(self):
        objects = CHART.objects("config.namespace=sessions", SECRETS)
        self.assertEqual([name for name in objects if name.startswith("Cluster")], [])
        role = objects[f"Role gateways:{NAME}"]
        self.assertEqual(role["metadata"]["namespace"], "sessions")
        expected = granted(CHART.objects(SECRETS)[f"ClusterRole gateways:{NAME}"])
        del expected["namespaces"]
        for verbs, _ in expected.values():
            if verbs & {"create", "patch"}:
                verbs.add("deletecollection")
        self.assertEqual(granted(role), expected)
        role = CHART.objects("config.namespace=sessions")[f"Role gateways:{NAME}"]
        self.assertEqual(granted(role)["secrets"], ({"deletecollection"}, None))
        binding = objects[f"RoleBinding gateways:{NAME}"]
        self.assertEqual((binding["metadata"]["namespace"], binding["subjects"]), ("sessions", [ACCOUNT]))
        self.assertEqual(binding["roleRef"]["name"], f"gateways:{NAME}")

    def test_a_namespace_of_the_session_s_own_may_have_another_name(self):
        objects = CHART.objects(values={"config": {"namespace": "dev-{uuid}"}})
        self.assertIn(f"ClusterRole gateways:{NAME}", objects)
        self.assertEqual([name for name in objects if name.startswith("Role")], [])


class Reached(unittest.TestCase):
    """By whom."""

    def test_the_service_leads_to_clients_port_only(self):
        spec = CHART.objects()[f"Service {NAME}"]["spec"]
        self.assertEqual(spec, {"type": "ClusterIP", "selector": LABELS, "ports": [
            {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}]})
        changed = CHART.objects("service.type=LoadBalancer", "service.port=8080", "service.annotations.a=b")
        service = changed[f"Service {NAME}"]
        self.assertEqual((service["spec"]["type"], service["spec"]["ports"][0]["port"]), ("LoadBalancer", 8080))
        self.assertEqual(service["metadata"]["annotations"], {"a": "b"})

    def test_there_is_no_ingress_by_default(self):
        self.assertNotIn(f"Ingress {NAME}", CHART.objects())

    def test_one_static_route_leads_to_all_sessions(self):
        tls = [{"hosts": ["dev.example.com"], "secretName": "certificate"}]
        ingress = {"enabled": True, "className": "nginx", "host": "dev.example.com", "tls": tls,
                   "annotations": {"a": "b"}}
        made = CHART.objects(values={"ingress": ingress})[f"Ingress {NAME}"]
        path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": NAME, "port": {"name": "http"}}}}
        self.assertEqual(made["spec"], {"ingressClassName": "nginx", "tls": tls, "rules": [
            {"host": "dev.example.com", "http": {"paths": [path]}}]})
        self.assertEqual(made["metadata"]["annotations"], {"a": "b"})
        plain = CHART.objects("ingress.enabled=true")[f"Ingress {NAME}"]
        self.assertEqual(plain["spec"], {"rules": [{"http": {"paths": [path]}}]})

    def test_sessions_do_not_reach_the_operators_port(self):
        spec = CHART.objects()[f"NetworkPolicy {NAME}"]["spec"]
        self.assertEqual(spec, {"podSelector": {"matchLabels": LABELS}, "policyTypes": ["Ingress"],
                                "ingress": [{"ports": [{"port": "http"}]}]})
        self.assertNotIn(f"NetworkPolicy {NAME}", CHART.objects("networkPolicy.enabled=false"))

    def test_named_operators_do(self):
        peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        spec = CHART.objects(values={"networkPolicy": {"operators": peers}})[f"NetworkPolicy {NAME}"]["spec"]
        self.assertEqual(spec["ingress"][1], {"ports": [{"port": "admin"}], "from": peers})


class Refusals(unittest.TestCase):
    """What is not installed, and why."""

    def test_without_authentication_somebody_has_to_say_so(self):
        told = CHART.refusal(IMAGE)
        self.assertIn("whoever reaches the gateway may start sessions", told)
        self.assertIn("--set auth.none_is_fine=true", told)
        self.assertNotIn("config.image.repository", told)
        self.assertIn("none_is_fine", CHART.refusal(IMAGE, "config.auth.none_is_fine=false", FINE))
        self.assertIn("none_is_fine", CHART.refusal(IMAGE, "auth.mode=none"))

    def test_with_authentication_nobody_has_to(self):
        for key in ["auth.mode", "config.auth.mode"]:
            self.assertIn("mode: jwt", CHART.template(IMAGE, f"{key}=jwt"))

    def test_the_sessions_image_has_to_be_named(self):
        told = CHART.refusal(FINE)
        self.assertIn("--set config.image.repository=", told)
        self.assertNotIn("none_is_fine", told)

    def test_all_that_is_missing_is_told_at_once(self):
        told = CHART.refusal()
        self.assertIn("none_is_fine", told)
        self.assertIn("config.image.repository", told)

    def test_an_unknown_key_is_refused_wherever_it_is(self):
        for section in ["", "image", "service", "ingress", "serviceAccount", "networkPolicy"]:
            key = f"{section}.typo".lstrip(".")
            with self.subTest(key):
                self.assertIn("'typo' not allowed", CHART.refusal(*CHART.needs, f"{key}=x"))

    def test_a_wrong_value_is_refused(self):
        wrong = ["replicas=-1", "replicas=two", "image.repository=", "image.pullPolicy=Sometimes", "image.digest=0",
                 "auth.none_is_fine=perhaps", "config.listen=8000", "config.admin.listen=here",
                 "config.shutdown.grace=10", "config.shutdown.grace=soon", "config.envSecrets=keys",
                 "config.image.pullSecrets[0].name=a", "service.port=0", "service.type=ExternalName",
                 "ingress.enabled=maybe", "preStopSeconds=5s", "podAnnotations.a=true", "env.A=b"]
        for pair in wrong:
            with self.subTest(pair):
                self.assertIn("at '/", CHART.refusal(*CHART.needs, pair))


class Notes(unittest.TestCase):
    """What a person is told after the installation."""

    def test_the_next_command_is_there_to_be_copied(self):
        notes = CHART.notes()
        self.assertIn(f"kubectl rollout status deployment/{NAME} --namespace gateways\n", notes)
        self.assertIn(f"kubectl port-forward service/{NAME} 8000:80 --namespace gateways\n", notes)
        self.assertRegex(notes, re.compile(r"^  http://127\.0\.0\.1:8000/[0-9a-f-]{36}/$", re.MULTILINE))

    def test_with_an_ingress_its_address_is_given(self):
        notes = CHART.notes("ingress.enabled=true", "ingress.host=dev.example.com",
                            "ingress.tls[0].secretName=certificate")
        self.assertRegex(notes, r"https://dev\.example\.com/[0-9a-f-]{36}/\n")
        self.assertNotIn("port-forward", notes)

    def test_an_open_gateway_says_so(self):
        self.assertIn("Nobody is asked who they are", CHART.notes())
        self.assertNotIn("Nobody is asked", CHART.notes("auth.none_is_fine=false", "auth.mode=jwt"))
