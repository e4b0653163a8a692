-- Writes or removes one key if a condition holds for what is stored there, in one step.
--
-- KEYS[1]  the key
-- ARGV[1]  the condition: always, newer or is
-- ARGV[2]  the version that it names, 16 bytes; empty: none
-- ARGV[3]  the time of the caller, 8 bytes: what has expired by then does not count
-- ARGV[4]  what to do: remove, keep (write without an expiry), or the life in milliseconds
-- ARGV[5]  the entry to write
--
-- 0: the condition does not hold, nothing was done. 1: done, nothing was there. 2: done, over or
-- of something that was there. The one command that writes comes last: an error means that nothing
-- was written.
local HEAD = 38

-- Whether `a` sorts before `b`, byte by byte. Lua's own < asks the locale of the server.
local function before(a, b)
  for at = 1, #a do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then return x < y end
  end
  return false
end

-- The version of what is stored: empty when it has none, nil when nothing is stored that counts.
-- Something else than a string makes the call fail, which is given back as a table.
local stored = nil
local head = redis.pcall('GETRANGE', KEYS[1], 0, HEAD - 1)
if type(head) == 'string' and #head == HEAD and string.sub(head, 1, 5) == 'LRDR\1' then
  local flags = string.byte(head, 6)
  local expires = flags % 2 == 1
  if not expires or before(ARGV[3], string.sub(head, 7, 14)) then
    stored = math.floor(flags / 4) % 2 == 1 and string.sub(head, 23, 38) or ''
  end
end

local holds
if ARGV[1] == 'always' then
  holds = true
elseif ARGV[1] == 'newer' then
  holds = stored == nil or stored == '' or before(stored, ARGV[2])
else
  holds = stored == ARGV[2]
end
if not holds then return 0 end

if ARGV[4] == 'remove' then
  -- What does not count stays, unless it has to go whatever it is.
  if stored ~= nil or ARGV[1] == 'always' then redis.call('UNLINK', KEYS[1]) end
elseif ARGV[4] == 'keep' then
  redis.call('SET', KEYS[1], ARGV[5])
else
  redis.call('SET', KEYS[1], ARGV[5], 'PX', ARGV[4])
end
return stored and 2 or 1
