"""docs/quickstart.md is followed: its calls against a real site, its programs by the interpreters that are here."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from django.conf import settings

from scoring.clients import keys
from scoring.models import WaitingLabel
from scoring.tests.test_client_webhooks import BODY, NOW, OTHER, SECRET, signed

PAGE = (settings.BASE_DIR / "docs" / "quickstart.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def run_shell(block, site, key):
    """What the commands of a block print, for somebody who set the two variables."""
    environment = os.environ | {"FRAUDSITE_URL": site, "FRAUDSITE_API_KEY": key}
    command = ["bash", "-c", block.replace("curl ", "curl --silent --show-error ")]
    return subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_the_first_call_is_answered_with_a_decision(site, acme):
    _, key = keys.create(client=acme, is_test=True)
    answer = json.loads(run_shell(blocks("sh")[1], site, key))
    assert (answer["transaction_id"], answer["decision"]) == ("order-1001", "approve")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")
def test_the_label_is_taken_and_waits_for_its_transaction(site, acme):
    _, key = keys.create(client=acme)
    assert json.loads(run_shell(blocks("sh")[2], site, key))["status"] == "waiting"
    assert WaitingLabel.objects.count() == 1


def test_the_call_from_python_is_answered_with_a_decision(site, acme):
    _, key = keys.create(client=acme, is_test=True)
    client = settings.BASE_DIR / "clients" / "python" / "src"
    environment = {"FRAUDSITE_URL": site, "FRAUDSITE_API_KEY": key, "PYTHONPATH": str(client)}
    command = [sys.executable, "-c", blocks("python")[0]]
    printed = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    assert printed == "approve 0.01\n"


def javascript(directory: Path, cases: Path) -> list[str]:
    (directory / "verify.mjs").write_text(blocks("js")[0])
    (directory / "main.mjs").write_text(
        """
        import { readFileSync } from "node:fs";
        import { verify } from "./verify.mjs";
        for (const each of JSON.parse(readFileSync(process.argv[2]))) {
          console.log(verify(Buffer.from(each.body, "base64"), each.headers, each.secrets, each.now));
        }
        """
    )
    return ["node", str(directory / "main.mjs"), str(cases)]


def java(directory: Path, cases: Path) -> list[str]:
    lines = [
        "\t".join(
            [
                each["body"],
                *(each["headers"].get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")),
                ",".join(each["secrets"]),
                str(each["now"]),
            ]
        )
        for each in json.loads(cases.read_text())
    ]
    (directory / "cases.txt").write_text("\n".join(lines))
    (directory / "Webhook.java").write_text(blocks("java")[0])
    (directory / "Main.java").write_text(
        """
        import java.nio.file.*;
        import java.util.*;
        class Main {
            public static void main(String[] arguments) throws Exception {
                for (String line : Files.readAllLines(Path.of(arguments[0]))) {
                    String[] part = line.split("\\t", -1);
                    System.out.println(Webhook.verify(Base64.getDecoder().decode(part[0]), part[1], part[2], part[3],
                        List.of(part[4].split(",")), Long.parseLong(part[5])));
                }
            }
        }
        """
    )
    subprocess.run(["javac", "-d", str(directory), *map(str, directory.glob("*.java"))], check=True)
    return ["java", "-cp", str(directory), "Main", str(directory / "cases.txt")]


def php(directory: Path, cases: Path) -> list[str]:
    (directory / "verify.php").write_text(blocks("php")[0])
    (directory / "main.php").write_text(
        """<?php
        require __DIR__ . '/verify.php';
        foreach (json_decode(file_get_contents($argv[1]), true) as $each) {
            [$id, $at, $signature] = array_map(fn ($name) => $each['headers']["webhook-$name"] ?? '',
                ['id', 'timestamp', 'signature']);
            $told = verify(base64_decode($each['body']), $id, $at, $signature, $each['secrets'], $each['now']);
            echo $told ? 'true' : 'false', PHP_EOL;
        }
        """
    )
    return ["php", str(directory / "main.php"), str(cases)]


@pytest.mark.parametrize(("program", "needs"), [(javascript, "node"), (java, "javac"), (php, "php")])
def test_a_program_of_the_page_verifies_what_is_signed_and_nothing_else(program, needs, tmp_path):
    if not shutil.which(needs):
        pytest.skip(f"{needs} is not here")
    both = signed()["webhook-signature"] + " " + signed(secret=OTHER)["webhook-signature"]
    headers = [
        signed(),
        signed(secret=OTHER),
        signed(**{"webhook-signature": both}),
        signed(key="msg_2") | {"webhook-id": "msg_1"},
        signed(at=NOW - 301),
        signed(at=NOW + 301),
        signed(**{"webhook-timestamp": "soon"}),
        signed(**{"webhook-signature": "v1,"}),
        signed(**{"webhook-signature": "v1,bm9uZQ== v2,x"}),
    ]
    bodies, secrets = [BODY, BODY + b" "], [[SECRET], [OTHER, SECRET], [OTHER]]
    cases = [
        {"body": base64.b64encode(body).decode(), "headers": each, "secrets": some, "now": NOW}
        for each, body, some in product(headers, bodies, secrets)
    ]
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    command = program(tmp_path, tmp_path / "cases.json")
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    wanted = [
        body == BODY and any(each in (signed(secret=secret), signed(**{"webhook-signature": both})) for secret in some)
        for each, body, some in product(headers, bodies, secrets)
    ]
    assert printed == [str(right).lower() for right in wanted]
    assert sum(wanted) == 7
