-- Every feature of configs/card_fraud, once more, in plain SQL over the whole file: one row a payment, in its order.
-- `payments` is the file with its row number `n`; {lists} the folder of the lists. A payment sees those of its key that
-- stand before it in the file and are no newer, and itself; here all are in order of event time.
with
p as (
    select * replace (make_timestamp(epoch_ms(event_time) * 1000) as event_time), epoch_ms(event_time) as t, merchant_id || ' ' || ip as address_at_merchant,
        case when channel = 'ecom' then true else false end as card_not_present,
        date_part('hour', event_time)::bigint as hour
    from payments
),
-- one join of each key with itself; `d`: how old the other one is, ms
merchant as (
    select i.n,
        count(*) filter (d < 604800000) as merchant_count_7d,
        avg(j.amount::double) filter (d < 604800000) as merchant_mean_7d,
        stddev_samp(j.amount::double) filter (d < 604800000) as merchant_stddev_7d,
        count(*) filter (d < 900000) as merchant_count_15m,
        count(distinct j.card_id) filter (d < 3600000) as merchant_cards_1h,
        count(*) filter (d < 600000 and j.amount >= 1 and j.amount <= 2) as merchant_small_10m,
        count(*) filter (d < 600000 and j.cvv_result = 'mismatch') as merchant_cvv_wrong_10m
    from (select i.n, i.t - j.t as d, j from p i join p j on j.merchant_id = i.merchant_id and j.n <= i.n) i group by i.n
),
terminal as (
    select i.n,
        count(*) filter (d < 900000) as terminal_count_15m,
        count(distinct j.card_id) filter (d < 3600000) as terminal_cards_1h,
        count(*) filter (d < 3600000 and j.entry_mode = 'fallback') as terminal_fallback_1h,
        sum(j.amount) filter (d < 3600000 and j.channel = 'atm') as terminal_cash_1h
    from (select i.n, i.t - j.t as d, j from p i join p j on j.terminal_id = i.terminal_id and j.n <= i.n) i group by i.n
),
address as (
    select i.n,
        count(*) filter (d < 600000) as address_count_10m,
        count(distinct j.card_id) filter (d < 600000) as address_cards_10m
    from (
        select i.n, i.t - j.t as d, j from p i join p j on j.merchant_id = i.merchant_id and j.ip = i.ip and j.n <= i.n
    ) i group by i.n
),
-- wrong codes only: the last five at a merchant with an issuer's cards, each of another card than the one before
enumerated as (
    select n, t - lag(t, 4) over w < 600000 and card_id <> lag(card_id) over w
        and lag(card_id) over w <> lag(card_id, 2) over w and lag(card_id, 2) over w <> lag(card_id, 3) over w
        and lag(card_id, 3) over w <> lag(card_id, 4) over w as bin_enumerated
    from p where cvv_result = 'mismatch' window w as (partition by merchant_id, bin order by n)
),
device as (
    select i.n,
        count(*) filter (d < 900000) as device_count_15m,
        sum(j.amount) filter (d < 900000) as device_sum_15m,
        count(*) filter (d < 86400000) as device_count_24h,
        sum(j.amount) filter (d < 86400000) as device_sum_24h,
        count(distinct j.card_id) filter (d < 86400000) as device_cards_24h,
        count(distinct j.user_id) filter (d < 604800000) as device_users_7d,
        count(distinct j.ip) filter (d < 3600000) as device_addresses_1h,
        count(*) filter (d < 3600000 and j.cvv_result = 'mismatch') as device_cvv_wrong_1h,
        min(d) filter (j.n < i.n) / 3600000.0 as device_idle_hours
    from (select i.n, i.t - j.t as d, j from p i join p j on j.device_id = i.device_id and j.n <= i.n) i group by i.n
),
person as (
    select i.n,
        count(*) filter (d < 3600000) as user_spend_count_1h,
        sum(j.amount) filter (d < 3600000) as user_spend_sum_1h,
        count(*) filter (d < 86400000) as user_spend_count_24h,
        sum(j.amount) filter (d < 86400000) as user_spend_sum_24h,
        count(distinct j.card_id) filter (d < 86400000) as user_cards_24h,
        count(distinct j.device_id) filter (d < 86400000) as user_devices_24h,
        count(distinct j.ip) filter (d < 3600000) as user_addresses_1h,
        i.device_id is not null and count(*) filter (d < 7776000000 and j.n < i.n and j.device_id = i.device_id) = 0
            as new_device,
        i.ip is not null and count(*) filter (d < 7776000000 and j.n < i.n and j.ip = i.ip) = 0 as new_address
    from (
        select i.n, i.device_id, i.ip, i.t - j.t as d, j from p i join p j on j.user_id = i.user_id and j.n <= i.n
    ) i group by i.n, i.device_id, i.ip
),
q as (select p.*, new_device, new_address from p join person using (n)),
card_pairs as (
    select i.n, i.t - j.t as d, i.country, i.merchant_id, i.mcc, j from q i join q j on j.card_id = i.card_id and j.n <= i.n
),
card as (
    select i.n,
        count(*) filter (d < 60000) as spend_count_1m, sum(j.amount) filter (d < 60000) as spend_sum_1m,
        count(*) filter (d < 300000) as spend_count_5m, sum(j.amount) filter (d < 300000) as spend_sum_5m,
        count(*) filter (d < 900000) as spend_count_15m, sum(j.amount) filter (d < 900000) as spend_sum_15m,
        count(*) filter (d < 3600000) as spend_count_1h, sum(j.amount) filter (d < 3600000) as spend_sum_1h,
        count(*) filter (d < 86400000) as spend_count_24h, sum(j.amount) filter (d < 86400000) as spend_sum_24h,
        count(*) filter (d < 604800000) as spend_count_7d, sum(j.amount) filter (d < 604800000) as spend_sum_7d,
        count(*) filter (d < 30000) as burst_30s, max(j.amount) filter (d < 30000) as burst_max_30s,
        count(j.ip) filter (d < 20000 and j.merchant_reputation = 'low') as risky_count_20s,
        count(distinct j.ip) filter (d < 20000 and j.merchant_reputation = 'low') as risky_distinct_20s,
        count(*) filter (d < 600000 and j.amount >= 1 and j.amount <= 2) as small_10m,
        count(*) filter (d < 86400000 and j.card_not_present) as remote_24h,
        sum(j.amount) filter (d < 86400000 and j.channel = 'atm') as cash_24h,
        count(*) filter (d < 3600000 and j.cvv_result = 'mismatch') as cvv_wrong_1h,
        count(*) filter (d < 86400000 and j.entry_mode = 'fallback') as fallback_24h,
        count(j.last_response) filter (d < 86400000) as answered_24h,
        count(*) filter (d < 86400000 and j.last_response <> '00') as declined_24h,
        count(distinct j.merchant_id) filter (d < 3600000) as merchants_distinct_1h,
        count(distinct j.merchant_id) filter (d < 86400000) as merchants_distinct_24h,
        count(distinct j.country) filter (d < 86400000) as countries_24h,
        count(*) filter (d < 7776000000 and j.n < i.n and j.country = i.country) = 0 as new_country,
        count(*) filter (d < 7776000000 and j.n < i.n and j.merchant_id = i.merchant_id) = 0 as new_merchant,
        count(*) filter (d < 2592000000 and j.n < i.n and j.mcc = i.mcc) = 0 as new_mcc,
        count(*) filter (d < 2592000000 and j.hour between 6 and 11) as mornings_30d,
        count(*) filter (d < 2592000000 and j.hour between 12 and 17) as afternoons_30d,
        count(*) filter (d < 2592000000 and j.hour >= 18) as evenings_30d,
        count(*) filter (d < 2592000000) as usual_count,
        avg(j.amount::double) filter (d < 2592000000) as usual_mean,
        stddev_samp(j.amount::double) filter (d < 2592000000) as usual_stddev,
        max(j.amount) filter (d < 2592000000) as usual_max
    from card_pairs i group by i.n, i.country, i.merchant_id, i.mcc
),
c as (
    select q.*, card.* exclude (n), lag(lat) over w as lat0, lag(lon) over w as lon0, lag(t) over w as t0,
        lag(amount) over w as amount0, lag(card_not_present) over w as absent0
    from q join card using (n) window w as (partition by card_id order by n)
),
spree as (
    select i.n, count(*) filter (i.t - j.t < 3600000 and (j.new_device or j.new_country)) as new_place_1h
    from c i join c j on j.card_id = i.card_id and j.n <= i.n group by i.n
),
placed as (
    select c.*, case hour // 6 when 1 then mornings_30d when 2 then afternoons_30d when 3 then evenings_30d
            else usual_count - mornings_30d - afternoons_30d - evenings_30d end as same_time,
        2 * 6371.0 * asin(sqrt(pow(sin(radians(lat - lat0) / 2), 2)
            + cos(radians(lat0)) * cos(radians(lat)) * pow(sin(radians(lon - lon0) / 2), 2))) as km,
        (t - t0) / 3600000.0 as hours
    from c
),
networks as (
    select split_part(network, '.', 2)::int as first, case when network like '%/12' then 15 else 0 end as more, country, kind
    from read_csv('{lists}/networks.csv', all_varchar = true)
)
select
    placed.* exclude (
        n, transaction_id, user_id, card_id, bin, card_product, currency, merchant_id, mcc, merchant_reputation,
        terminal_id, device_id, ip, country, lat, lon, channel, entry_mode, cvv_result, last_response, event_time, t, lat0, lon0, t0,
        amount0, absent0, same_time, km, hours, address_at_merchant
    ),
    placed.transaction_id, placed.address_at_merchant, placed.merchant_id || ' ' || placed.bin as bin_at_merchant,
    coalesce(bin_enumerated, false) as bin_enumerated,
    merchant.* exclude (n),
    coalesce(terminal_count_15m, 0) as terminal_count_15m, coalesce(terminal_cards_1h, 0) as terminal_cards_1h,
    coalesce(terminal_fallback_1h, 0) as terminal_fallback_1h, terminal_cash_1h,
    coalesce(address_count_10m, 0) as address_count_10m, coalesce(address_cards_10m, 0) as address_cards_10m,
    coalesce(device_count_15m, 0) as device_count_15m, device_sum_15m,
    coalesce(device_count_24h, 0) as device_count_24h, device_sum_24h,
    coalesce(device_cards_24h, 0) as device_cards_24h, coalesce(device_users_7d, 0) as device_users_7d,
    coalesce(device_addresses_1h, 0) as device_addresses_1h,
    coalesce(device_cvv_wrong_1h, 0) as device_cvv_wrong_1h, device_idle_hours,
    person.* exclude (n, new_device, new_address),
    new_place_1h,
    declined_24h / nullif(answered_24h, 0)::double as decline_ratio_24h,
    km as km_from_last, hours as hours_from_last, km / nullif(hours, 0) as speed_kmh,
    hour < 6 as night, isodow(event_time) >= 6 as weekend, hour // 6 as quarter,
    same_time / usual_count::double as same_time_share,
    amount::double / usual_mean as amount_to_usual,
    (amount::double - usual_mean) / nullif(usual_stddev, 0) as amount_z,
    amount::double / nullif(amount0, 0)::double as amount_jump,
    amount::double / merchant_mean_7d as amount_to_merchant,
    (amount::double - merchant_mean_7d) / nullif(merchant_stddev_7d, 0) as merchant_z,
    spend_sum_24h::double / day_limit::double as limit_share,
    card_not_present <> absent0 as presence_changed,
    coalesce(risk, 0.5) as mcc_risk,
    merchant_reputation = 'low' as low_reputation,
    coalesce(cvv_result = 'mismatch', false) as cvv_wrong,
    bins.country as issuer_country, placed.country <> bins.country as abroad,
    networks.kind as address_kind, networks.country as address_country, networks.country <> placed.country as address_abroad
from placed
join merchant using (n)
join person using (n)
join spree using (n)
left join terminal using (n)
left join address using (n)
left join enumerated using (n)
left join device using (n)
left join read_csv('{lists}/thresholds.csv') thresholds using (card_product)
left join read_csv('{lists}/mcc_risk.csv', types = {'mcc': 'varchar'}) risks using (mcc)
left join read_csv('{lists}/bins.csv', all_varchar = true) bins on substr(placed.bin, 1, 3) = bins.bin
left join networks on split_part(ip, '.', 2)::int between first and first + more
order by n
