<?php

// A client of the classic panel protocol as PHP panels have it: curl, no questions about certificates or statuses.

class Api
{
    public string $api_url = '';
    public string $api_key = '';

    public function order(array $data)
    {
        return json_decode($this->ask('add', $data));
    }

    public function status(int $order)
    {
        return json_decode($this->ask('status', ['order' => $order]));
    }

    public function multiStatus(array $orders)
    {
        return json_decode($this->ask('status', ['orders' => implode(',', $orders)]));
    }

    public function services()
    {
        return json_decode($this->ask('services'));
    }

    public function refill(int $order)
    {
        return json_decode($this->ask('refill', ['order' => $order]));
    }

    public function multiRefill(array $orders)
    {
        return json_decode($this->ask('refill', ['orders' => implode(',', $orders)]), true);
    }

    public function refillStatus(int $refill)
    {
        return json_decode($this->ask('refill_status', ['refill' => $refill]));
    }

    public function multiRefillStatus(array $refills)
    {
        return json_decode($this->ask('refill_status', ['refills' => implode(',', $refills)]), true);
    }

    public function cancel(array $orders)
    {
        return json_decode($this->ask('cancel', ['orders' => implode(',', $orders)]), true);
    }

    public function balance()
    {
        return json_decode($this->ask('balance'));
    }

    private function ask(string $action, array $fields = [])
    {
        $pairs = [];
        foreach (['key' => $this->api_key, 'action' => $action] + $fields as $name => $value) {
            $pairs[] = $name . '=' . urlencode((string) $value);
        }
        $curl = curl_init($this->api_url);
        curl_setopt_array($curl, [
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_POST => true,
            CURLOPT_POSTFIELDS => implode('&', $pairs),
            CURLOPT_HEADER => false,
            CURLOPT_SSL_VERIFYPEER => false,
            CURLOPT_SSL_VERIFYHOST => 0,
            CURLOPT_FOLLOWLOCATION => true,
            CURLOPT_USERAGENT => 'Mozilla/4.0 (compatible; MSIE 5.01; Windows NT 5.0)',
        ]);
        $reply = curl_exec($curl);
        curl_close($curl);
        return $reply;
    }
}

$api = new Api();
[, $api->api_url, $api->api_key] = $argv;
$results = [];
foreach (json_decode(stream_get_contents(STDIN), true) as $call) {
    $method = array_shift($call);
    $results[] = $api->$method(...$call);
}
echo json_encode($results, JSON_THROW_ON_ERROR);
