"""Merkle tree: compared with the Certificate Transparency vectors and an independent implementation."""

from __future__ import annotations

import hashlib

import pymerkle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ockham.record.tlog.merkle import (
    EMPTY,
    MAX_PROOF,
    CompactRange,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_from_leaves,
    root_of_perfect_subtree,
    verify_consistency,
    verify_inclusion,
)

# The eight inputs and roots of the CT reference tests (google/certificate-transparency, merkletree tests).
CT_LEAVES = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(n):
    return [leaf_hash(b"line %d" % i) for i in range(n)]


def test_roots_match_certificate_transparency_vectors():
    """One to eight leaves, and the empty tree."""
    hashes = [leaf_hash(data) for data in CT_LEAVES]
    assert [root_from_leaves(hashes[: n + 1]).hex() for n in range(8)] == CT_ROOTS
    assert root_from_leaves([]) == EMPTY == hashlib.sha256().digest()


@pytest.fixture(scope="module")
def other():
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    for i in range(300):
        tree.append_entry(b"line %d" % i)
    return tree


def test_roots_match_an_independent_implementation(other):
    """All sizes up to 300."""
    frontier = CompactRange()
    for size, leaf in enumerate(leaves(300), start=1):
        frontier.append(leaf)
        assert frontier.root() == other.get_root(size)
        assert frontier.size == size


def test_inclusion_paths_match_an_independent_implementation(other):
    """The hashes are equal for each leaf."""
    ours = leaves(37)
    for index in range(37):
        theirs = other.prove_inclusion(index + 1, 37).serialize()["path"]
        assert [bytes.fromhex(h) for h in theirs[1:]] == inclusion_proof(ours, index)


@given(st.integers(1, 70), st.data())
def test_inclusion_is_valid_for_the_right_values_only(size, data):
    """Leaf, index, size or root are changed in turn."""
    index = data.draw(st.integers(0, size - 1))
    hashes = leaves(size)
    proof, root = inclusion_proof(hashes, index), root_from_leaves(hashes)
    assert verify_inclusion(hashes[index], index, size, proof, root)
    assert not verify_inclusion(leaf_hash(b"other"), index, size, proof, root)
    assert not verify_inclusion(hashes[index], index, size, proof, bytes(32))
    assert not verify_inclusion(hashes[index], (index + 1) % (size + 1), size, proof, root)
    assert not verify_inclusion(hashes[index], index, size, [*proof, bytes(32)], root)
    if proof:
        assert not verify_inclusion(hashes[index], index, size, proof[:-1], root)


@given(st.integers(0, 70), st.data())
def test_consistency_is_valid_for_the_right_values_only(size, data):
    """Leaf, size or root are changed in turn."""
    old = data.draw(st.integers(0, size))
    hashes = leaves(size)
    proof = consistency_proof(hashes, old)
    was, now = root_from_leaves(hashes[:old]), root_from_leaves(hashes)
    assert verify_consistency(old, was, size, now, proof)
    assert not verify_consistency(old, bytes(32), size, now, proof)
    assert not verify_consistency(old, was, size, now, [*proof, bytes(32)])
    if 0 < old < size:
        assert not verify_consistency(old, was, size, bytes(32), proof)
        assert not verify_consistency(old, was, size, now, proof[:-1])
        forged = [leaf_hash(b"forged"), *hashes[1:]]
        assert not verify_consistency(
            old, was, size, root_from_leaves(forged), consistency_proof(forged, old)
        )


def test_proof_of_any_length_ends_quickly():
    """A million hashes and invalid sizes are refused."""
    assert not verify_inclusion(bytes(32), 0, 2**63, [bytes(32)] * 1_000_000, bytes(32))
    assert not verify_consistency(1, bytes(32), 2**63, bytes(32), [bytes(32)] * 1_000_000)
    assert not verify_inclusion(bytes(32), 5, 5, [], bytes(32))
    assert not verify_consistency(5, bytes(32), 3, bytes(32), [])


def test_empty_proof_of_an_earlier_tree_is_refused():
    """Different sizes need hashes."""
    hashes = leaves(5)
    assert not verify_consistency(3, root_from_leaves(hashes[:3]), 5, root_from_leaves(hashes), [])
    same = root_from_leaves(hashes)
    assert not verify_consistency(2, same, 1, same, [])


def test_proof_of_the_maximum_length_is_valid():
    """One hash more is refused."""
    path = leaves(MAX_PROOF)
    root = leaf = leaf_hash(b"first")
    for sibling in path:
        root = node_hash(root, sibling)
    assert verify_inclusion(leaf, 0, 1 << MAX_PROOF, path, root)
    assert verify_consistency(1, leaf, 1 << MAX_PROOF, root, path)
    longer = [*path, leaf]
    assert not verify_inclusion(leaf, 0, 1 << MAX_PROOF + 1, longer, node_hash(root, leaf))
    assert not verify_consistency(1, leaf, 1 << MAX_PROOF + 1, node_hash(root, leaf), longer)


def test_proof_of_a_missing_leaf_is_an_error():
    """The error names index and size."""
    with pytest.raises(IndexError, match="no leaf 5 in a tree of 5"):
        inclusion_proof(leaves(5), 5)
    with pytest.raises(IndexError, match="a tree of 5 has no earlier size 6"):
        consistency_proof(leaves(5), 6)


@pytest.mark.parametrize("size", [1, 2, 4, 64, 256])
def test_perfect_subtree_root_equals_the_general_root(size):
    """This is the fast path of full tiles."""
    assert root_of_perfect_subtree(leaves(size)) == root_from_leaves(leaves(size))


def test_leaf_cannot_pass_as_a_node():
    """The prefixes differ."""
    a, b = leaves(2)
    assert leaf_hash(a + b) != root_from_leaves([a, b])


def test_doubled_odd_leaf_changes_the_root():
    """CVE-2012-2459 of another tree is excluded."""
    hashes = leaves(3)
    assert root_from_leaves(hashes) != root_from_leaves([*hashes, hashes[-1]])


def test_append_returns_each_completed_subtree():
    """The list starts with the lowest level."""
    hashes = [leaf_hash(bytes([at])) for at in range(16)]
    frontier = CompactRange()
    for at, leaf in enumerate(hashes, 1):
        levels = [level for level in range(1, 5) if at % 2**level == 0]
        assert frontier.append(leaf) == [
            (level, root_from_leaves(hashes[at - 2**level : at])) for level in levels
        ]
