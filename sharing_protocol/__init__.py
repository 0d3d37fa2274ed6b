"""What hub and members agree on: formats, proofs and rules, as pure functions over bytes and values.

Nothing here does I/O, reads a clock or an environment. Bytes come in and become typed values or an error
(`errors`); decisions are functions of values alone. From the bottom up:

    keys, strict_json, envelope      what is signed, and by whom
    merkle, tiles                    the log's hashes, proofs and tiles (RFC 6962, C2SP tlog-tiles)
    notes, checkpoints               its signed head (C2SP signed-note, tlog-checkpoint, tlog-cosignature)
    statements                       what entries say
    membership, admission, content   who may say it, where in the log, and whether it is sound
    pattern_logic, personal_data     what patterns mean, and what they may not contain
    cacao, playbooks                 what playbooks tell people to do (OASIS CACAO 2.0)
    trust                            whether to believe the next checkpoint, or which lie it is
    tlog_proof, log_excerpt          entries with their proofs, for who does not hold the log (C2SP tlog-proof)
    record_proof, evidence           who said what, and who lied, shown to somebody outside
    request_signing, wire            the HTTP between hub and members
"""
