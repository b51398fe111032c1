"""Bundles on disk: good ones load, every kind of bad one is refused by name, and nothing unlisted is touched."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bundles
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vsdk_runtimes import Bundle, bundle_digest, integrity, load, load_bundle, read_manifest
from vsdk_runtimes.errors import (
    BundleDamagedError,
    BundleError,
    BundleNotFoundError,
    BundlePathError,
    BundleSchemaError,
    Error,
)
from vsdk_runtimes.manifest import Manifest

GRAPH = "encoder/fp32.onnx"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bundles.encoder_bundle(tmp_path / "bundle")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, in order."""
    names: list[str] = []
    real = integrity.file_sha256

    def counted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(integrity, "file_sha256", counted)
    return names


# --- Good bundles ---


def test_a_good_bundle_loads(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert bundle.folder == folder
    assert list(bundle.components) == ["encoder"]
    encoder = bundle.component("encoder")
    assert encoder is bundle.components["encoder"]
    assert encoder.path(GRAPH) == folder / "encoder" / "fp32.onnx"
    assert encoder.spec.inputs["pixels"].shape == ("batch", 3, 8, 8)
    assert bundle.has("encoder")
    assert not bundle.has("bridge")


def test_the_folder_may_be_a_string_or_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    assert load_bundle(str(folder)).digest == load_bundle(tmp_path / "link").digest


def test_a_role_that_is_not_there(folder: Path) -> None:
    with pytest.raises(BundleSchemaError, match=r"no component with the role 'bridge' \(it has: encoder\)") as caught:
        load_bundle(folder).component("bridge")
    assert "--into" in caught.value.hint


def test_a_role_that_is_there_twice(folder: Path) -> None:
    bundles.edit_manifest(folder, lambda m: m["components"].update(other=m["components"]["encoder"]))
    bundle = load_bundle(folder)
    with pytest.raises(BundleSchemaError, match="2 components with the role 'encoder'") as caught:
        bundle.component("encoder")
    assert "encoder, other" in caught.value.hint
    assert bundle.components["other"].spec == bundle.components["encoder"].spec


def test_links_within_the_folder_are_fine(folder: Path) -> None:
    (folder / "encoder" / "real.bin").write_bytes((folder / GRAPH).read_bytes())
    (folder / GRAPH).unlink()
    (folder / GRAPH).symlink_to("real.bin")
    load_bundle(folder)


def test_unlisted_files_are_never_opened(folder: Path) -> None:
    """Opening a FIFO would block for ever; nobody writes to these."""
    os.mkfifo(folder / "encoder" / "pipe.onnx")
    os.mkfifo(folder / "README.md")
    (folder / "danger.pkl").symlink_to("/dev/zero")
    load_bundle(folder, verify=True)


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "bundle.md"
    blocks = re.findall(r"```json\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "manifest.json").write_text(blocks[0], encoding="utf-8")
    manifest = read_manifest(tmp_path)
    assert {component.role for component in manifest.components.values()} == {"encoder", "bridge"}


# --- Digests ---


def test_digest_is_a_sha256_and_stable(folder: Path, tmp_path: Path) -> None:
    digest = load_bundle(folder).digest
    assert re.fullmatch("[0-9a-f]{64}", digest)
    assert load_bundle(folder).digest == digest
    assert load_bundle(bundles.encoder_bundle(tmp_path / "again")).digest == digest


def test_digest_ignores_layout_parity_and_defaults_that_are_spelled_out(folder: Path) -> None:
    digest = load_bundle(folder).digest

    def rearrange(manifest: dict[str, Any]) -> None:
        part = manifest["components"]["encoder"]
        part["parity"] = {"fp32": {"cls": {"max_abs": 1e-5, "relative": 1e-6, "cosine": 1.0}}}
        part["look_ahead"] = 0
        part["state"] = []
        manifest["components"]["encoder"] = dict(reversed(part.items()))
        manifest["files"] = dict(reversed(manifest["files"].items()))

    bundles.edit_manifest(folder, rearrange)
    assert load_bundle(folder).digest == digest


def test_digest_survives_new_optional_fields_of_a_later_vsdk(folder: Path) -> None:
    class LaterManifest(Manifest):
        languages: tuple[str, ...] = ("en",)

    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert bundle_digest(LaterManifest.model_validate(content)) == load_bundle(folder).digest
    content["languages"] = ["de"]
    assert bundle_digest(LaterManifest.model_validate(content)) != load_bundle(folder).digest


def test_digest_of_a_manifest_in_memory_is_that_of_the_file(folder: Path) -> None:
    bundle = load_bundle(folder)
    (folder / "manifest.json").write_text(bundle.manifest.model_dump_json(indent=1), encoding="utf-8")
    assert load_bundle(folder).digest == bundle.digest == bundle_digest(bundle.manifest)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(name="another"),
        lambda m: m["created_with"].update(torch="2.13.0"),
        lambda m: m["components"]["encoder"].update(family="clip"),
        lambda m: m["components"]["encoder"]["source"].update(license="unknown to us"),
        lambda m: m["components"]["encoder"].update(look_ahead=3),
        lambda m: m["files"][GRAPH].update(sha256="0" * 64),
        lambda m: m.update(default_precision={"cpu": "fp16"}),
    ],
)
def test_digest_covers_everything_else(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    before = bundle_digest(read_manifest(folder))
    bundles.edit_manifest(folder, change)
    assert bundle_digest(read_manifest(folder)) != before


def test_the_right_pin_is_accepted_and_hashes_every_file(folder: Path, hashed: list[str]) -> None:
    digest = load_bundle(folder).digest
    hashed.clear()
    assert load_bundle(folder, digest=digest).digest == digest
    assert sorted(hashed) == ["fp16.onnx", "fp32.onnx"]


@pytest.mark.parametrize("pin", ["0" * 64, "", "not a digest"])
def test_another_pin_is_refused(folder: Path, pin: str) -> None:
    digest = load_bundle(folder).digest
    with pytest.raises(BundleDamagedError, match=f"{folder}.*{digest}.*{pin}") as caught:
        load_bundle(folder, digest=pin)
    assert "pin" in caught.value.hint


def test_a_pin_sees_an_altered_file_whose_digest_was_altered_too(folder: Path) -> None:
    digest = load_bundle(folder).digest
    bundles.replace_file(folder, GRAPH, (folder / GRAPH).read_bytes()[::-1])
    load_bundle(folder)
    with pytest.raises(BundleDamagedError, match="pinned"):
        load_bundle(folder, digest=digest)


# --- Bad bundles ---


def _manifest_text(text: str | bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "manifest.json").write_bytes(text.encode() if isinstance(text, str) else text)

    return change


def _edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    return lambda folder: bundles.edit_manifest(folder, change)


def _part(**fields: Any) -> Callable[[Path], None]:
    return _edit(lambda m: m["components"]["encoder"].update(fields))


def _list_also(path: str) -> Callable[[Path], None]:
    return _edit(lambda m: m["files"].update({path: {"bytes": 1, "sha256": "0" * 64}}))


def _remove_folder(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _replace_folder_by_file(folder: Path) -> None:
    _remove_folder(folder)
    folder.write_text("not a folder")


def _replace_manifest(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "manifest.json").unlink()
        make(folder / "manifest.json")

    return change


def _replace_graph(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / GRAPH).unlink()
        make(folder / GRAPH)

    return change


def _link_out(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    (folder / GRAPH).rename(outside)
    (folder / GRAPH).symlink_to(outside)


def _link_folder_out(folder: Path) -> None:
    outside = folder.parent / "outside"
    (folder / "encoder").rename(outside)
    (folder / "encoder").symlink_to(outside)


def _truncate(folder: Path) -> None:
    os.truncate(folder / GRAPH, 100)


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / GRAPH).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / GRAPH).write_bytes(content)


def _state(**fields: Any) -> Callable[[Path], None]:
    return _part(state=[fields])


def _repeat_files(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"files": {"encoder', '"files": {}, "files": {"encoder'))


def _overflow(folder: Path) -> None:
    _part(parity={"fp32": {"cls": {"max_abs": 123.5, "relative": 0, "cosine": 1}}})(folder)
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace("123.5", "1e999"))


BAD = {
    # what is wrong: how it comes about, the error, what the message says
    "no-folder": (_remove_folder, BundleNotFoundError, "no file manifest.json"),
    "folder-is-a-file": (_replace_folder_by_file, BundleNotFoundError, "manifest.json"),
    "no-manifest": (_replace_manifest(lambda path: None), BundleNotFoundError, "no file manifest.json"),
    "manifest-is-a-folder": (_replace_manifest(Path.mkdir), BundleNotFoundError, "no file manifest.json"),
    "manifest-is-a-pipe": (_replace_manifest(os.mkfifo), BundleNotFoundError, "no file manifest.json"),
    "manifest-links-to-itself": (
        _replace_manifest(lambda path: path.symlink_to(path)),
        BundleNotFoundError,
        "manifest.json",
    ),
    "manifest-empty": (_manifest_text(""), BundleSchemaError, "not valid JSON"),
    "manifest-not-json": (_manifest_text("schema_version: 1"), BundleSchemaError, "not valid JSON"),
    "manifest-cut-short": (_manifest_text('{"schema_version": 1, "na'), BundleSchemaError, "not valid JSON"),
    "manifest-not-utf8": (_manifest_text('{"name": "café"}'.encode("latin-1")), BundleSchemaError, "not UTF-8"),
    "manifest-with-bom": (_manifest_text("\ufeff{}"), BundleSchemaError, "not valid JSON"),
    "manifest-is-a-list": (_manifest_text("[1, 2]"), BundleSchemaError, "schema version None"),
    "manifest-is-null": (_manifest_text("null"), BundleSchemaError, "schema version None"),
    "manifest-nested-absurdly": (_manifest_text("[" * 100_000), BundleSchemaError, "not valid JSON"),
    "number-is-nan": (
        _part(parity={"fp32": {"cls": {"max_abs": float("nan"), "relative": 0, "cosine": 1}}}),
        BundleSchemaError,
        "NaN is not a JSON number",
    ),
    "number-is-infinite": (_manifest_text('{"schema_version": -Infinity}'), BundleSchemaError, "-Infinity is not"),
    "number-overflows": (_overflow, BundleSchemaError, "max_abs: Input should be a finite number"),
    "text-that-is-not-unicode": (
        _edit(lambda m: m["components"].update({"\ud800": m["components"]["encoder"]})),
        BundleSchemaError,
        "not valid JSON: .*surrogates not allowed",
    ),
    "name-twice": (_repeat_files, BundleSchemaError, "'files' is there twice"),
    "schema-missing": (_edit(lambda m: m.pop("schema_version")), BundleSchemaError, "schema version None"),
    "schema-future": (_edit(lambda m: m.update(schema_version=2)), BundleSchemaError, "schema version 2; .*version 1"),
    "schema-text": (_edit(lambda m: m.update(schema_version="1")), BundleSchemaError, "schema version '1'"),
    "schema-true": (_edit(lambda m: m.update(schema_version=True)), BundleSchemaError, "schema version True"),
    "unknown-field": (_edit(lambda m: m.update(licence="MIT")), BundleSchemaError, "licence: Extra inputs"),
    "unknown-field-inside": (_part(crop=[8, 8]), BundleSchemaError, "components.encoder.crop: Extra inputs"),
    "field-missing": (_edit(lambda m: m.pop("created_with")), BundleSchemaError, "created_with: Field required"),
    "no-components": (_edit(lambda m: m.update(components={})), BundleSchemaError, "components"),
    "no-graphs": (_part(files={}), BundleSchemaError, "components.encoder.files"),
    "no-files": (_edit(lambda m: m.update(files={})), BundleSchemaError, f"'{GRAPH}', which is not listed in files"),
    "graph-not-listed": (
        _part(files={"fp32": "encoder/other.onnx"}),
        BundleSchemaError,
        "'encoder' refers to 'encoder/other.onnx', which is not listed in files",
    ),
    "asset-not-listed": (_part(assets={"tokenizer": "tokenizer.json"}), BundleSchemaError, "'tokenizer.json'"),
    "state-file-not-listed": (
        _part(
            inputs={"cls": {"dtype": "float32", "shape": [4]}},
            outputs={"next": {"dtype": "float32", "shape": [4]}},
            state=[{"input": "cls", "output": "next", "init": "start.npy"}],
        ),
        BundleSchemaError,
        "'start.npy', which is not listed",
    ),
    "state-input-missing": (_state(output="cls", input="memory"), BundleSchemaError, "cls -> memory names a tensor"),
    "state-output-missing": (_state(output="memory", input="pixels"), BundleSchemaError, "memory -> pixels names"),
    "state-of-two-shapes": (_state(output="cls", input="pixels"), BundleSchemaError, "different dtype or shape"),
    "output-axis-from-nowhere": (
        _part(outputs={"cls": {"dtype": "float32", "shape": ["boxes", 4]}}),
        BundleSchemaError,
        "'cls' has the dynamic axis 'boxes', which no input has",
    ),
    "dtype-unknown": (_part(inputs={"pixels": {"dtype": "float64", "shape": [1]}}), BundleSchemaError, "dtype"),
    "size-zero": (_part(inputs={"pixels": {"dtype": "float32", "shape": [0]}}), BundleSchemaError, "shape"),
    "precision-unknown": (_part(files={"bf16": GRAPH}), BundleSchemaError, "components.encoder.files.bf16"),
    "role-with-spaces": (_part(role="my encoder"), BundleSchemaError, "components.encoder.role"),
    "digest-too-short": (_edit(lambda m: m["files"][GRAPH].update(sha256="abc")), BundleSchemaError, "sha256"),
    "digest-in-capitals": (
        _edit(lambda m: m["files"][GRAPH].update(sha256="A" * 64)),
        BundleSchemaError,
        r"files\.encoder/fp32\.onnx\.sha256",
    ),
    "bytes-negative": (_edit(lambda m: m["files"][GRAPH].update(bytes=-1)), BundleSchemaError, "bytes"),
    "path-absolute": (_list_also("/etc/passwd"), BundlePathError, "'/etc/passwd'"),
    "path-with-two-slashes": (_list_also("//etc/passwd"), BundlePathError, "'//etc/passwd'"),
    "path-to-parent": (_list_also("../outside"), BundlePathError, r"'\.\./outside'"),
    "path-through-parent": (_list_also("encoder/../../outside"), BundlePathError, r"'encoder/\.\./\.\./outside'"),
    "path-with-backslash": (_list_also("encoder\\fp32.onnx"), BundlePathError, "plain relative path"),
    "path-with-null": (_list_also("a\0b"), BundlePathError, "plain relative path"),
    "path-empty": (_list_also(""), BundlePathError, "''"),
    "path-is-the-folder": (_list_also("."), BundlePathError, r"'\.'"),
    "path-not-normal": (_list_also("./encoder//fp32.onnx"), BundlePathError, "plain relative path"),
    "link-out": (_link_out, BundlePathError, f"'{GRAPH}', which is a link that leaves its folder"),
    "link-out-through-folder": (_link_folder_out, BundlePathError, "a link that leaves its folder"),
    "link-to-device": (_replace_graph(lambda p: p.symlink_to("/dev/zero")), BundlePathError, "leaves its folder"),
    "link-in-a-circle": (_replace_graph(lambda p: p.symlink_to(p)), BundleError, "fp32.onnx"),
    "link-to-nothing": (_replace_graph(lambda p: p.symlink_to("gone")), BundleDamagedError, "fp32.onnx is missing"),
    "file-missing": (_replace_graph(lambda path: None), BundleDamagedError, "fp32.onnx is missing"),
    "file-is-a-folder": (_replace_graph(Path.mkdir), BundleDamagedError, "fp32.onnx is not a file"),
    "file-is-a-pipe": (_replace_graph(os.mkfifo), BundleDamagedError, "fp32.onnx is not a file"),
    "file-cut-short": (_truncate, BundleDamagedError, r"fp32.onnx has 100 bytes; the manifest says \d+"),
    "file-altered": (_flip_a_bit, BundleDamagedError, "fp32.onnx is not what was exported: its SHA-256"),
    "name-too-long": (_list_also("x" * 300), BundleDamagedError, "File name too long"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_bundles(folder: Path, kind: str) -> None:
    spoil, expected, message = BAD[kind]
    spoil(folder)
    with pytest.raises(expected, match=message) as caught:
        load_bundle(folder)
    assert str(folder) in caught.value.message
    assert caught.value.hint


def test_a_manifest_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions mean nothing to root, so the refusal itself is played."""

    def refuse(self: Path, *args: Any, **options: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(BundleNotFoundError, match=r"cannot read .*manifest\.json: Permission denied") as caught:
        load_bundle(folder)
    assert "permissions" in caught.value.hint


def test_a_file_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(integrity, "file_sha256", refuse)
    with pytest.raises(BundleDamagedError, match=r"cannot read .*fp32\.onnx: Input/output error") as caught:
        load_bundle(folder)
    assert isinstance(caught.value.__cause__, OSError)


def test_every_bundle_error_is_a_vsdk_error() -> None:
    assert {expected for _, expected, _ in BAD.values()} >= {
        BundleNotFoundError,
        BundleSchemaError,
        BundlePathError,
        BundleDamagedError,
    }
    assert issubclass(BundleError, Error)


# --- What was verified before ---


def test_a_second_load_does_not_hash_again(folder: Path, hashed: list[str]) -> None:
    load_bundle(folder)
    assert sorted(hashed) == ["fp16.onnx", "fp32.onnx"]
    load_bundle(folder)
    assert len(hashed) == 2


def test_verify_hashes_again(folder: Path, hashed: list[str]) -> None:
    load_bundle(folder)
    load_bundle(folder, verify=True)
    assert sorted(hashed) == ["fp16.onnx", "fp16.onnx", "fp32.onnx", "fp32.onnx"]


def test_a_touched_file_is_hashed_again(folder: Path, hashed: list[str]) -> None:
    load_bundle(folder)
    os.utime(folder / GRAPH, ns=(0, 1_000_000_000))
    load_bundle(folder)
    assert hashed[2:] == ["fp32.onnx"]
    _flip_a_bit(folder)
    os.utime(folder / GRAPH, ns=(0, 2_000_000_000))
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        load_bundle(folder)


def _edit_and_hide(folder: Path) -> None:
    """Another byte in a graph of the same size, and its modification time set back."""
    status = (folder / GRAPH).stat()
    _flip_a_bit(folder)
    os.utime(folder / GRAPH, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_damage_that_kept_size_and_modification_time_is_seen(folder: Path) -> None:
    load_bundle(folder)
    _edit_and_hide(folder)
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        load_bundle(folder)


@pytest.mark.parametrize("edit", [_edit_and_hide, lambda folder: (folder / GRAPH).write_bytes(b"short")])
def test_a_graph_that_was_edited_after_verification_is_not_run(folder: Path, edit: Callable[[Path], object]) -> None:
    bundle = load_bundle(folder, verify=True)
    edit(folder)
    with pytest.raises(BundleDamagedError, match=r"fp32\.onnx"):
        load(bundle.component("encoder"), threads=1)


def test_an_initial_state_that_was_edited_after_verification_is_not_read(tmp_path: Path) -> None:
    folder = bundles.memory_bundle(tmp_path / "memory")
    bundle = load_bundle(folder)
    (folder / "bridge" / "memory.npy").write_bytes(bundles.npy(bundles.INITIAL_MEMORY + 1))
    with pytest.raises(BundleDamagedError, match=r"memory\.npy"):
        load(bundle.component("bridge"), threads=1)


def test_what_was_only_touched_after_verification_runs(folder: Path, hashed: list[str]) -> None:
    bundle = load_bundle(folder)
    load(bundle.component("encoder"), threads=1).close()
    assert len(hashed) == 2
    os.utime(folder / GRAPH, ns=(0, 1_000_000_000))
    load(bundle.component("encoder"), threads=1).close()
    assert hashed[2:] == ["fp32.onnx"]


def test_a_new_digest_in_the_manifest_is_not_covered_by_an_old_result(folder: Path) -> None:
    load_bundle(folder)
    bundles.edit_manifest(folder, lambda m: m["files"][GRAPH].update(sha256="0" * 64))
    with pytest.raises(BundleDamagedError, match="SHA-256"):
        load_bundle(folder)


def test_a_copy_elsewhere_is_hashed(folder: Path, tmp_path: Path, hashed: list[str]) -> None:
    load_bundle(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")  # with the files' times
    load_bundle(copy)
    assert len(hashed) == 4


def test_damage_is_not_remembered_as_good(folder: Path) -> None:
    _flip_a_bit(folder)
    for _ in range(2):
        with pytest.raises(BundleDamagedError, match="SHA-256"):
            load_bundle(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": {"b": []}}'])
def test_a_corrupt_memory_is_ignored(folder: Path, cache_folder: Path, hashed: list[str], content: bytes) -> None:
    load_bundle(folder)
    (memory,) = (path for path in cache_folder.rglob("*") if path.is_file())
    memory.write_bytes(content)
    load_bundle(folder)
    assert len(hashed) == 4
    load_bundle(folder)
    assert len(hashed) == 4


@pytest.mark.parametrize("obstacle", ["file", "full"])
def test_an_unwritable_cache_folder_is_fine(
    folder: Path, cache_folder: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    if obstacle == "file":
        (cache_folder / "vsdk").write_text("in the way")
    else:

        def refuse(self: Path, *args: Any, **options: Any) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", refuse)
    load_bundle(folder)
    load_bundle(folder)
    assert len(hashed) == 4


def test_no_home_folder_is_fine(folder: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[str]) -> None:
    """As in a container whose user is not in its password file."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    load_bundle(folder)
    load_bundle(folder)
    assert len(hashed) == 4


def test_nothing_is_written_beside_the_one_file_of_the_cache(folder: Path, cache_folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    load_bundle(folder)
    assert sorted(folder.rglob("*")) == before
    assert [path.name for path in cache_folder.rglob("*") if path.is_file()] == ["verified.json"]


def test_the_memory_is_bounded(folder: Path, cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "_MOST_REMEMBERED", 3)
    for second in range(5):
        os.utime(folder / GRAPH, ns=(0, second * 1_000_000_000))
        load_bundle(folder)
    assert len(json.loads((cache_folder / "vsdk" / "verified.json").read_text())) == 3


# --- Anything at all ---


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = bundles.memory_bundle(tmp_path_factory.mktemp("fuzzed"))
    return folder, (folder / "manifest.json").read_bytes()


def assert_loads_or_names_the_folder(folder: Path) -> None:
    """Any other exception fails the test."""
    outcome: Bundle | Error
    try:
        outcome = load_bundle(folder)
    except Error as error:
        outcome = error
    if isinstance(outcome, Bundle):
        assert re.fullmatch("[0-9a-f]{64}", outcome.digest)
    else:
        assert str(folder) in outcome.message


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_manifest_is_valid_or_a_vsdk_error(fuzzed: tuple[Path, bytes], data: st.DataObject) -> None:
    folder, original = fuzzed
    content = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 20)))
        content[start:end] = data.draw(
            st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"null", b"-1", b"\\ud800"])
        )
    (folder / "manifest.json").write_bytes(bytes(content))
    assert_loads_or_names_the_folder(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=json_values)
def test_a_manifest_with_any_value_anywhere_is_valid_or_a_vsdk_error(
    fuzzed: tuple[Path, bytes], data: st.DataObject, value: Any
) -> None:
    folder, original = fuzzed
    manifest = json.loads(original)
    place = manifest
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not (isinstance(place[key], (dict, list)) and place[key]) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = value
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert_loads_or_names_the_folder(folder)
