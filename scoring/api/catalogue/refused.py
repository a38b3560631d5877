"""What is wrong with a request, a key or what it asks for."""

from scoring.api.catalogue.kind import ADMINISTRATOR, SENDER, SERVER, Kind

REFUSED = (
    Kind(
        400,
        "Malformed body",
        "The body is not one JSON object in UTF-8. Nothing was stored.",
        "Look at the code of the error: it tells a byte-order mark, NaN or Infinity, text that is not Unicode, and the "
        "line and column where the JSON ends.",
        SENDER,
        "The body is not JSON: look at line 1, column 17.",
        (("not_json", "", "The body is not JSON: look at line 1, column 17."),),
    ),
    Kind(
        400,
        "Invalid fields",
        "Fields of the body, or parameters of the query, are missing, unknown, sent twice or of the wrong type. "
        "Nothing was stored.",
        "`errors` names every one of them: a field by its `pointer` (RFC 6901), a parameter by `parameter`. The fields "
        "of a transaction depend on its schema, which the OpenAPI document has.",
        SENDER,
        "Some fields are missing, unknown or of the wrong type. Correct the fields named in `errors` and send again.",
        (("missing", "/Amount", "This field is required."),),
    ),
    Kind(
        400,
        "Bad request",
        "The request cannot be understood as HTTP.",
        "Look at the request that your library makes: its address, its query, its headers.",
        SENDER,
        "The request makes no sense.",
    ),
    Kind(
        400,
        "Unknown host",
        "The `Host` header names no site that this server answers for.",
        "Use one of the site's names. The operator sets them with `ALLOWED_HOSTS`.",
        ADMINISTRATOR,
        "The Host header has no name of this site. The operator sets its names with ALLOWED_HOSTS.",
    ),
    Kind(
        400,
        "File refused",
        "The file cannot be read as what it says it is. Nothing of it was stored.",
        "`errors` says where it is at fault. Correct it, and send it again.",
        SENDER,
        "The file cannot be taken.",
    ),
    Kind(
        401,
        "Unauthorized",
        "There is no API key, or one that is unknown, revoked or expired.",
        "Send `Authorization: Bearer <key>`. An administrator makes keys.",
        ADMINISTRATOR,
        "There is no API key. Send it as `Authorization: Bearer <key>`.",
    ),
    Kind(
        403,
        "Scope missing",
        "The key is not made for this call.",
        "Use a key with the scope that `detail` names, or have it added to this one.",
        ADMINISTRATOR,
        "This call needs a key with the scope read, which this key has not. An administrator adds it to the key, or "
        "makes another key.",
    ),
    Kind(
        403,
        "Schema not allowed",
        "The key may not be used for this dataset schema.",
        "Use a key of that schema, or have the schema added to this one.",
        ADMINISTRATOR,
        "This key may not be used for the schema payments. Use a key of that schema, or have an administrator add it "
        "to this one.",
    ),
    Kind(
        403,
        "Address outside the networks of the key",
        "The call comes from an address that the key is not accepted from. `detail` has the address that was seen.",
        "Call from one of the key's networks, or have the network added. If the address is that of your proxy, the "
        "operator has to set `BEHIND_PROXY`.",
        ADMINISTRATOR,
        "This key is accepted from its own networks only, and 203.0.113.7 is in none of them. An administrator adds "
        "the network to the key.",
    ),
    Kind(
        403,
        "Key for tests",
        "The key is one for tests, which this call does not take.",
        "Use another key. One for tests is taken by predict calls, lists of transactions and reading one of their "
        "answers.",
        SENDER,
        "A key for tests is accepted for predict calls, lists of transactions and reading one of their answers. For "
        "everything else use another key.",
    ),
    Kind(
        403,
        "Forbidden",
        "The key may not do that.",
        "Use another key.",
        ADMINISTRATOR,
        "This key may not do that.",
    ),
    Kind(
        404,
        "Not found",
        "There is nothing at this address that the key may see. Rows of other clients look like rows that "
        "do not exist.",
        "Look at the id, and at the path: the addresses of the API begin with `/api/v1/`.",
        SENDER,
        "There is nothing at this address.",
    ),
    Kind(
        405,
        "Method not allowed",
        "The address does not take this method.",
        "Use a method that the header `Allow` of `OPTIONS` names.",
        SENDER,
        'Method "PUT" not allowed.',
    ),
    Kind(
        406,
        "Not acceptable",
        "The answer was asked for in a format that there is not.",
        "Send `Accept: application/json`, or leave the header out.",
        SENDER,
        "There is no such answer. Send `Accept: application/json`, or leave it out.",
    ),
    Kind(
        409,
        "Transaction id already used",
        "You sent this transaction id before with other content. Nothing was stored.",
        "To repeat a call, send the same content: you get the stored answer. A new transaction needs an id of its own.",
        SENDER,
        "This transaction id was used before with another body. Send the same body to repeat, or choose another id.",
    ),
    Kind(
        409,
        "Label reference already used",
        "You sent this reference before with another label. Nothing was stored.",
        "To repeat a call, send the same label. Another label needs a reference of its own, or none.",
        SENDER,
        "This reference was used before for a label that says something else. Send the same to repeat, or another one.",
    ),
    Kind(
        409,
        "Idempotency key already used",
        "You sent this `Idempotency-Key` before with another file.",
        "To repeat a call, send the same file. Another file needs a key of its own.",
        SENDER,
        "This Idempotency-Key was used before with another file. Send the same file to repeat, or choose another key.",
    ),
    Kind(
        409,
        "Result not ready",
        "The file has no result yet, or it has expired.",
        "Read the state of the file: it tells which.",
        SERVER,
        "There is no result yet, or no longer: `state` of the file tells which.",
    ),
    Kind(
        413,
        "Body too large",
        "The body is larger than this address takes. Nothing was stored.",
        "Send it in parts. `detail` has the limit, which is a setting of the operator.",
        SENDER,
        "The body may have at most 65536 bytes.",
    ),
    Kind(
        415,
        "Unsupported media type",
        "The body is in a format, an encoding or a compression that is not taken.",
        "Send `Content-Type: application/json`, in UTF-8, without a `Content-Encoding`.",
        SENDER,
        "Send the body as `application/json` in UTF-8, without a Content-Encoding but `identity`.",
    ),
    Kind(
        422,
        "Unacceptable values",
        "Values have the right type and cannot be accepted: out of range, a time in the future, card data, an unknown "
        "transaction. Nothing was stored.",
        "`errors` names each of them, with the range or the remedy. Never send card numbers: send a token.",
        SENDER,
        "Some values cannot be accepted. Correct the fields named in `errors` and send again.",
        (("out_of_range", "/Amount", "Send a number from 0 to 100000."),),
    ),
    Kind(
        422,
        "Unscorable transaction",
        "The model has no finite score for these values.",
        "Check the values against the schema. One that was accepted for later waits until an operator tries it again.",
        ADMINISTRATOR,
        "The model has no finite score for these values; nothing was stored. Check them against the schema.",
    ),
    Kind(
        422,
        "Score not explained",
        "The version that scored the transaction is gone, or its schema was declared anew.",
        "The score and the decision still hold; their explanation cannot be made any more.",
        SENDER,
        "The score of this transaction cannot be explained any more.",
    ),
)
