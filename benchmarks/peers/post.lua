-- wrk: post the lines of $ROWS in turn, with $AUTHORIZATION when it is set, and with ids of transactions that begin with
-- $IDS when that is set.
local rows, turn, sent, ids = {}, 0, 0, os.getenv("IDS")
for line in io.lines(os.getenv("ROWS")) do
  rows[#rows + 1] = line
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
function request()
  turn = turn % #rows + 1
  local row = rows[turn]
  if ids then
    sent = sent + 1
    row = '{"transaction_id": "' .. ids .. "-" .. sent .. '", ' .. row:sub(2)
  end
  return wrk.format(nil, nil, nil, row)
end
