"""Needs nothing: SCRAM verifiers against the vector of RFC 7677, and SQL that holds no password."""

import base64
import hashlib
import hmac

from chatbot_postgres.roles import APP, OWNER, render_cluster_sql, scram_verifier


def test_verifier_matches_the_vector_of_rfc_7677() -> None:
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
    prefix, salted, keys = scram_verifier("pencil", salt).split("$")
    stored, server = (base64.b64decode(part) for part in keys.split(":"))
    exchange = (
        b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    )
    assert prefix == "SCRAM-SHA-256"
    assert salted == "4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    assert base64.b64encode(hmac.digest(server, exchange, "sha256")) == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored, exchange, "sha256")
    client_key = bytes(left ^ right for left, right in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored


def test_two_verifiers_of_one_password_differ() -> None:
    assert scram_verifier("pencil") != scram_verifier("pencil")


def test_sql_holds_verifiers_and_gives_roles_no_power() -> None:
    text = render_cluster_sql("chatbot", {"postgres": scram_verifier("s1"), OWNER: scram_verifier("s2"), APP: scram_verifier("s3")})
    assert text.count("PASSWORD 'SCRAM-SHA-256$") == 3
    assert text.count("NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS") == 2
    assert text.index("log_min_error_statement") < text.index("PASSWORD"), "an error may not log a statement with a verifier"
