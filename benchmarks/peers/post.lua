-- wrk: post the lines of $ROWS in turn, with $AUTHORIZATION when it is set.
local rows, turn = {}, 0
for line in io.lines(os.getenv("ROWS")) do
  rows[#rows + 1] = line
end
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = os.getenv("AUTHORIZATION")
function request()
  turn = turn % #rows + 1
  return wrk.format(nil, nil, nil, rows[turn])
end
